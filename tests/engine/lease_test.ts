/** Whose turn the device is, and streams between engine and caller. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GenerationStream } from "../../src/engine/request/generation.ts";
import type { GenerationDelta } from "../../src/engine/request/request.ts";
import { DeviceLease } from "../../src/runtime/lease.ts";

Deno.test("turns are one at a time, by priority, then by arrival", async () => {
  const lease = new DeviceLease();
  const first = lease.take(1);
  assert(!(first instanceof Promise) && lease.held);
  const order: string[] = [];
  const later = [["train", 5], ["a", 0], ["b", 0]].map(async ([name, priority]) => {
    using _turn = await lease.take(Number(priority));
    order.push(`${name}`);
  });
  assertEquals([lease.wanted(1), lease.wanted(0)], [true, false]);
  first.release();
  first.release();
  await Promise.all(later);
  assertEquals(order, ["a", "b", "train"]);
  assertEquals(lease.held, false);
});

function delta(text: string): GenerationDelta {
  const none = { logprobs: undefined, finishReason: undefined, stopReason: undefined };
  return { index: 0, text, tokens: [1], ...none };
}

Deno.test("a stream gives what was pushed before it failed, then the error, then its end", async () => {
  const stream = new GenerationStream({ promptTokens: 1, onLeave: () => {} });
  stream.push(delta("a"));
  stream.fail(new Error("broken"));
  stream.push(delta("late"));
  assertEquals((await stream.next()).value?.text, "a");
  await assertRejects(() => stream.next(), Error, "broken");
  assertEquals((await stream.next()).done, true);
  assertEquals(stream.usage.completionTokens, 1);
});

Deno.test("a stream is iterated once, and leaving it tells the engine", async () => {
  let left = 0;
  const stream = new GenerationStream({ promptTokens: 1, onLeave: () => left++ });
  stream.push(delta("a"));
  for await (const _ of stream) break;
  assertEquals(left, 1);
  assertThrows(() => stream[Symbol.asyncIterator](), TypeError, "twice");
});
