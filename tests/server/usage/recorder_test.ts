/** Usage records on their way to a store that is slow, fails, or is gone. */
import { assert, assertEquals } from "@std/assert";
import type { UsageRecord } from "../../../adapters/store/store.ts";
import type { TrainProgress } from "../../../adapters/training/training.ts";
import { createLog } from "../../../server/telemetry/log.ts";
import { UsageRecorder } from "../../../server/usage/metering.ts";
import { TrainingUsage } from "../../../server/jobs/train_job.ts";

function record(id: string): UsageRecord {
  return {
    ...{ id, at: 1, tenant: "acme", keyId: null, model: "m", kind: "chat" },
    ...{ promptTokens: 1, cachedTokens: 0, completionTokens: 1, trainedTokens: 0, requestId: id },
  };
}

/** A store whose writes end when the test says so. */
class Writes {
  readonly batches: string[][] = [];
  readonly kept = new Set<string>();
  fails = false;
  #open: (() => void)[] = [];

  add = async (records: readonly UsageRecord[]): Promise<void> => {
    this.batches.push(records.map(({ id }) => id));
    await new Promise<void>((resolve) => this.#open.push(resolve));
    if (this.fails) throw new Error("no connection");
    for (const { id } of records) this.kept.add(id);
  };

  release(): void {
    const open = this.#open;
    this.#open = [];
    for (const resolve of open) resolve();
  }
}

function recorder(store: Writes, patience = 60_000) {
  const lines: string[] = [];
  const log = createLog("info", (line) => lines.push(line));
  return { recorder: new UsageRecorder({ store, log, patience }), lines };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("records that come during a write go together in the next one", async () => {
  const store = new Writes();
  const { recorder: usage } = recorder(store);
  const all = ["a", "b", "c", "d"].map((id) => usage.record(record(id)));
  assertEquals([store.batches, usage.pending], [[["a"]], 4]);
  store.release();
  assertEquals(await all[0], "durable");
  assertEquals(store.batches[1], ["b", "c", "d"]);
  store.release();
  assertEquals(await Promise.all(all), Array(4).fill("durable"));
  assertEquals([usage.pending, store.batches.length], [0, 2]);
  await usage[Symbol.asyncDispose]();
});

Deno.test("a failed write is tried again, and waits no answer longer than its patience", async () => {
  const store = new Writes();
  const { recorder: usage, lines } = recorder(store, 5);
  store.fails = true;
  const first = usage.record(record("a"));
  store.release();
  assertEquals([await first, usage.pending], ["pending", 1]);
  assert(lines.some((line) => line.includes("cannot be written")), lines.join("\n"));
  store.fails = false;
  await until(() => store.batches.length === 2);
  assertEquals(store.batches[1], ["a"]);
  store.release();
  await until(() => usage.pending === 0);
  assert(store.kept.has("a"));
  await usage[Symbol.asyncDispose]();
});

Deno.test("closing writes what is left; what cannot be written is said to be lost", async () => {
  const store = new Writes();
  const { recorder: usage } = recorder(store);
  const kept = ["a", "b"].map((id) => usage.record(record(id)));
  const closed = usage[Symbol.asyncDispose]();
  store.release();
  await until(() => store.batches.length === 2);
  store.release();
  await closed;
  assertEquals([...store.kept], ["a", "b"]);
  await Promise.all(kept);
  const broken = new Writes();
  broken.fails = true;
  const { recorder: lost, lines } = recorder(broken, 1);
  const answer = lost.record(record("c"));
  const end = lost[Symbol.asyncDispose]();
  const releasing = setInterval(() => broken.release(), 1);
  await end;
  clearInterval(releasing);
  assertEquals(await answer, "pending");
  assert(lines.some((line) => line.includes("usage records lost")), lines.join("\n"));
});

Deno.test("a job's records add up, also where steps are repeated after a crash", async () => {
  const kept = new Map<string, number>();
  const store = {
    add: (records: readonly UsageRecord[]) => {
      for (const { id, trainedTokens } of records) if (!kept.has(id)) kept.set(id, trainedTokens);
      return Promise.resolve();
    },
    trained: () => Promise.resolve([...kept.values()].reduce((sum, tokens) => sum + tokens, 0)),
  };
  const start = (tokens: number): TrainProgress => ({
    ...{ type: "start", steps: 6, done: tokens / 10, tokens, tokensPerEpoch: 60 } as const,
    settled: { epochs: 1, batchSize: 1, learningRateMultiplier: 1, learningRate: 1 },
    base: { loss: 1, accuracy: 0 },
  });
  const step = (at: number): TrainProgress => ({
    ...{ type: "step", step: at, steps: 6, epoch: 1, loss: 1, accuracy: 0 } as const,
    ...{ learningRate: 1, gradientNorm: 1, tokens: 10 * at, tokensPerSecond: 1 },
  });
  const job = { id: "ftjob-1", tenant: "acme", model: "base", createdAt: 1 };
  const run = async (from: number, to: number, every = 2) => {
    const usage = await TrainingUsage.open(store, job);
    usage.hear(start(10 * from));
    for (let at = from + 1; at <= to; at++) {
      usage.hear(step(at));
      if (at % every === 0) await usage.checkpoint(at);
    }
    return usage;
  };
  await run(0, 3);
  await run(2, 4); // died after the record of step 4, before its checkpoint was kept
  await run(2, 3, 3); // by time, checkpoints come at other steps than before
  const last = await run(3, 5, 5);
  await last.finish(50);
  assertEquals([...kept], [
    ["ftjob-1/step-2", 20],
    ["ftjob-1/step-4", 20],
    ["ftjob-1/step-5", 10],
  ]);
});
