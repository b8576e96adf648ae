/** One tenant's flood and another's requests, through the whole engine over a fake model. */
import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import { EQUAL_STANDING } from "../../../src/engine/policy/accounts.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import type { TenantStanding } from "../../../src/engine/request/request.ts";
import { fakeModel, type Harness, harness, read, readOne, request } from "../harness.ts";

const MODEL = { maxBatch: 8, maxContext: 256, prefillTokens: 64, kvBytesPerToken: 10 };

function standing(more: Partial<TenantStanding>): TenantStanding {
  return { ...EQUAL_STANDING, ...more };
}

function ask(own: Harness, tenant: string, maxTokens: number, more: Partial<TenantStanding> = {}) {
  const asked = request({ tenant, maxTokens, ignoreEos: true, standing: standing(more) });
  return own.engine.generate(asked);
}

/** Resolves after so many more runs of the model. */
async function runs(own: Harness, count: number): Promise<void> {
  const until = own.steps() + count;
  while (own.steps() < until) await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("beside a flood of long answers a first token comes within two runs, at all times", async () => {
  await using own = harness({ model: MODEL });
  const flood = Array.from({ length: 40 }, () => readOne(ask(own, "flood", 100)));
  await runs(own, 4);
  for (let turn = 0; turn < 12; turn++) {
    const before = own.steps();
    const guest = ask(own, turn % 3 === 0 ? "other" : "guest", 4)[Symbol.asyncIterator]();
    await guest.next();
    // the run in flight, and its own prefill
    assertLess(own.steps() - before, 4, `turn ${turn}`);
    while (!(await guest.next()).done);
    await runs(own, turn);
  }
  const answers = await Promise.all(flood);
  assert(answers.every(({ tokens }) => tokens.length === 100));
});

Deno.test("a flood that holds every slot gives one back, and its row ends with the same text", async () => {
  const model = fakeModel({ ...MODEL, maxBatch: 3 });
  await using own = harness({ lanes: [{ factors: undefined, model }], model: { ...MODEL } });
  const flood = Array.from(
    { length: 3 },
    (_, i) =>
      request({
        id: `${i}`,
        tenant: "flood",
        prompt: `flood ${i}`,
        maxTokens: 60,
        ignoreEos: true,
      }),
  );
  const answers = flood.map((each) => readOne(own.engine.generate(each)));
  await runs(own, 10);
  assertEquals(own.engine.stats().running, 3);
  await readOne(ask(own, "guest", 4));
  assertEquals(own.engine.stats().preemptions, 1);
  for (const [i, each] of flood.entries()) {
    await using alone = harness({ lanes: [{ factors: undefined, model: fakeModel(MODEL) }] });
    assertEquals(await answers[i], await readOne(alone.engine.generate(each)));
  }
});

Deno.test("backlogged tenants are served by their weights", async () => {
  await using own = harness({ model: { ...MODEL, maxBatch: 4 }, maxQueue: 500 });
  const served = { one: 0, three: 0 };
  const enough = Promise.withResolvers<void>();
  const controller = new AbortController();
  const run = async (tenant: "one" | "three", weight: number) => {
    const asked = request({
      tenant,
      standing: standing({ weight }),
      maxTokens: 10,
      ignoreEos: true,
      signal: controller.signal,
    });
    for await (const { tokens } of own.engine.generate(asked)) served[tenant] += tokens.length;
    if (served.one + served.three > 1200) enough.resolve();
  };
  const all = Array.from({ length: 120 }, () => [run("one", 1), run("three", 3)]).flat();
  await enough.promise;
  const ratio = served.three / served.one;
  controller.abort();
  await Promise.all(all);
  assert(ratio > 2.4 && ratio < 3.6, `${served.three} to ${served.one} tokens`);
});

Deno.test("a tenant runs as many samples at once as it may, and as many wait", async () => {
  await using own = harness({ model: MODEL });
  const limits = { concurrency: 2, queued: 1 };
  const accepted = [1, 2, 3].map(() => readOne(ask(own, "small", 20, limits)));
  const refused = assertThrows(() => ask(own, "small", 20, limits), OverloadedError);
  assertEquals(refused.scope, "tenant");
  assertEquals(
    refused.message,
    "Too many requests of 'small' wait: 3 of at most 1, while 0 of at most 2 run",
  );
  await runs(own, 5);
  assertEquals([own.engine.stats().running, own.engine.stats().waiting], [2, 1]);
  await readOne(ask(own, "other", 4));
  await Promise.all(accepted);
  await readOne(ask(own, "small", 4, limits));
});

Deno.test("a full queue is shared: who holds less displaces the newest of who holds most", async () => {
  await using own = harness({ model: { ...MODEL, maxBatch: 1 }, maxQueue: 6 });
  const flood = Array.from({ length: 6 }, () => read(ask(own, "flood", 30)));
  assertThrows(() => ask(own, "flood", 30), OverloadedError, "6 of 6 wait");
  const guests = [1, 2, 3].map(() => readOne(ask(own, "guest", 2)));
  assertThrows(() => ask(own, "guest", 2), OverloadedError, "6 of 6 wait");
  for (const displaced of flood.slice(3)) {
    await assertRejects(() => displaced, OverloadedError, "other tenants");
  }
  await Promise.all([...guests, ...flood.slice(0, 3)]);
});

Deno.test("a standing that cannot be is refused by name", async () => {
  await using own = harness();
  assertThrows(() => ask(own, "a", 1, { weight: 0 }), RangeError, "weight: current value is 0");
  assertThrows(() => ask(own, "a", 1, { concurrency: 0 }), RangeError, "concurrency");
  assertThrows(() => ask(own, "a", 1, { queued: -1 }), RangeError, "queued");
});
