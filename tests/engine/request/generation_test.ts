/** The stream between engine and caller. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GenerationStream } from "../../../src/engine/request/output.ts";
import type { GenerationDelta } from "../../../src/engine/request/request.ts";

function delta(text: string): GenerationDelta {
  const none = { logprobs: undefined, finishReason: undefined, stopReason: undefined };
  return { index: 0, text, tokens: [1], ...none };
}

const times = () => ({
  ...{ arrived: 0, admitted: undefined, firstToken: undefined, lastToken: undefined },
});

Deno.test("a stream gives what was pushed before it failed, then the error, then its end", async () => {
  const stream = new GenerationStream({ promptTokens: 1, times, onLeave: () => {} });
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
  const stream = new GenerationStream({ promptTokens: 1, times, onLeave: () => left++ });
  stream.push(delta("a"));
  for await (const _ of stream) break;
  assertEquals(left, 1);
  assertThrows(() => stream[Symbol.asyncIterator](), TypeError, "twice");
});

Deno.test("a stream listens to its caller's signal until it ends, and no longer", () => {
  for (const end of ["end", "fail", "return"] as const) {
    let left = 0;
    const control = new AbortController();
    const { signal } = control;
    const stream = new GenerationStream({ promptTokens: 1, times, signal, onLeave: () => left++ });
    stream[end](new Error("broken"));
    const before = left;
    control.abort();
    assertEquals(left, before, end);
  }
  let left = 0;
  const control = new AbortController();
  const { signal } = control;
  const stream = new GenerationStream({ promptTokens: 1, times, signal, onLeave: () => left++ });
  control.abort();
  stream.end();
  assertEquals(left, 1);
});
