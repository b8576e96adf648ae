/** Requests that nobody waits for, beside others, through the whole engine over a fake model. */
import { setImmediate } from "node:timers";
import { assert, assertEquals, assertLessOrEqual, assertThrows } from "@std/assert";
import { EQUAL_STANDING, Ledger } from "../../../src/engine/policy/accounts.ts";
import type { StepObservation } from "../../../src/engine/metrics.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import { alone, type Harness, harness, read, readOne, request } from "../harness.ts";

const MODEL = { maxBatch: 16, maxContext: 256, prefillTokens: 64, kvBytesPerToken: 10 };

function ask(own: Harness, options: Parameters<typeof request>[0]) {
  return own.engine.generate(request({ maxTokens: 40, ignoreEos: true, ...options }));
}

async function runs(own: Harness, count: number): Promise<void> {
  const until = own.steps() + count;
  // a turn of the event loop, of which the engine takes one a step
  while (own.steps() < until) await new Promise<void>((resolve) => void setImmediate(resolve));
}

Deno.test("background rows fill a batch, give way at once, and end with the same text", async () => {
  const steps: StepObservation[] = [];
  await using own = harness({ model: MODEL, listener: { step: (seen) => void steps.push(seen) } });
  const prompts = Array.from({ length: 24 }, (_, i) => `line ${i}`);
  const lines = prompts.map((prompt) => readOne(ask(own, { prompt, background: true })));
  await runs(own, 12);
  assertEquals(own.engine.stats().running, 16);
  const guest = ask(own, { prompt: "guest", maxTokens: 40 })[Symbol.asyncIterator]();
  const before = own.steps();
  await guest.next();
  // the run in flight, and its own prefill
  assertLessOrEqual(own.steps() - before, 3);
  const from = steps.length;
  while (!(await guest.next()).done);
  const beside = steps.slice(from, -4);
  const decodes = beside.filter(({ kind }) => kind === "decode");
  for (const { rows } of decodes) assertLessOrEqual(rows, 3);
  // of prompts there is a chunk after every eighth decode run
  const prefills = beside.filter(({ kind }) => kind === "prefill");
  assertLessOrEqual(prefills.length, Math.ceil(decodes.length / 8));
  const texts = (await Promise.all(lines)).map(({ text }) => text);
  const [first = "", last = ""] = [prompts[0], prompts[23]];
  for (const [i, prompt] of [[0, first], [23, last]] as const) {
    const [lone] = await alone(request({ prompt, maxTokens: 40, ignoreEos: true }));
    assertEquals(texts[i], lone?.text);
  }
});

Deno.test("whoever waits goes before the background, whatever came first and whosever it is", async () => {
  await using own = harness({ model: { ...MODEL, maxBatch: 1 } });
  const order: string[] = [];
  const start = (name: string, tenant: string, background: boolean) =>
    readOne(ask(own, { prompt: name, tenant, background, maxTokens: 3 }))
      .then(() => void order.push(name));
  const first = start("first", "a", false);
  await Promise.all([
    first,
    start("line 1", "a", true),
    start("line 2", "b", true),
    start("second", "a", false),
    start("third", "b", false),
  ]);
  assertEquals(order.slice(0, 3).toSorted(), ["first", "second", "third"]);
  assertEquals(order.slice(3).toSorted(), ["line 1", "line 2"]);
});

Deno.test("background requests make nobody heavy, and take nobody's place in a full queue", async () => {
  const ledger = new Ledger();
  const lines = ledger.background("a", EQUAL_STANDING, 0);
  const [a, b] = [ledger.account("a", EQUAL_STANDING, 0), ledger.account("b", EQUAL_STANDING, 0)];
  [lines.live, b.live] = [16, 3];
  // the lines alone, not b beside a that has nothing
  assertEquals([...ledger.heavy(1)], [lines]);
  b.live = 0;
  assertEquals([...ledger.heavy(1)], []);
  assert(lines.standing.priority > a.standing.priority + 1e6);
  await using own = harness({ model: { ...MODEL, maxBatch: 1 }, maxQueue: 2 });
  const flood = Array.from({ length: 2 }, () => read(ask(own, { tenant: "flood", maxTokens: 5 })));
  assertThrows(() => ask(own, { tenant: "quiet", background: true }), OverloadedError);
  // one that somebody waits for does
  const quiet = read(ask(own, { tenant: "quiet", maxTokens: 1 }));
  const ends = (await Promise.allSettled(flood)).map(({ status }) => status);
  assertEquals([(await quiet).length, ends], [1, ["fulfilled", "rejected"]]);
});

Deno.test("a tenant's own limit of rows holds for both together", async () => {
  await using own = harness({ model: MODEL });
  const standing = { ...EQUAL_STANDING, concurrency: 2 };
  const lines = Array.from(
    { length: 6 },
    () => readOne(ask(own, { background: true, standing, maxTokens: 8 })),
  );
  await runs(own, 4);
  assertEquals(own.engine.stats().running, 2);
  await Promise.all(lines);
});
