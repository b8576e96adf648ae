/** Seeded traces of arrivals, cancels, failures and shortage, with all invariants after every run. */
import { setImmediate } from "node:timers";
import { assert, assertEquals } from "@std/assert";
import type { GenerationRequest } from "../../src/engine/request/request.ts";
import { adapter, FakeAdapters } from "../fakes/adapters.ts";
import { alone, fakeModel, harness, read, request, type Sample, seeded } from "./harness.ts";

interface Trace {
  readonly seed: number;
  readonly requests: number;
  readonly kvMemory: number;
  readonly failures: boolean;
  /** Decode steps that the model takes at once. */
  readonly ahead?: number;
}

const TRACES: readonly Trace[] = [
  { seed: 1, requests: 220, kvMemory: 100_000, failures: false },
  { seed: 2, requests: 220, kvMemory: 2_400, failures: false },
  { seed: 3, requests: 220, kvMemory: 3_300, failures: true },
  { seed: 4, requests: 220, kvMemory: 9_000, failures: true },
  { seed: 5, requests: 220, kvMemory: 2_400, failures: false, ahead: 4 },
  { seed: 6, requests: 220, kvMemory: 9_000, failures: true, ahead: 8 },
];
const MODEL = { maxBatch: 6, maxContext: 160, prefillTokens: 48, kvBytesPerToken: 10 };
const OPENINGS = ["", "You are an elf. ".repeat(3), "the road the road the road ".repeat(3)];

function pick<T>(random: () => number, values: readonly T[]): T {
  const value = values[Math.floor(random() * values.length)];
  if (value === undefined) throw new Error("nothing to pick from");
  return value;
}

function randomRequest(random: () => number, id: number, ahead: boolean): GenerationRequest {
  const tenant = `tenant-${Math.floor(random() * 3)}`;
  const core = random() < 0.6 ? `${tenant}/core@${Math.floor(random() * 3)}` : undefined;
  const factors = random() < 0.7 ? "factors-a" : "factors-b";
  return request({
    id: `${id}`,
    tenant,
    prompt: pick(random, OPENINGS) + "abc ".repeat(Math.floor(random() * 12)) + id % 7,
    adapter: core === undefined ? undefined : adapter(core, factors),
    n: random() < 0.1 ? 3 : 1,
    priority: random() < 0.2 ? Math.floor(random() * 5) - 2 : 0,
    background: random() < 0.2,
    temperature: random() < 0.5 ? 0 : 1,
    seed: id,
    maxTokens: 1 + Math.floor(random() * 40),
    ignoreEos: random() < 0.5,
    stop: random() < 0.3 ? ["ing", "\n\n", "e"] : [],
    // one row that asks for these has all of its lane go step by step
    presencePenalty: random() < (ahead ? 0.05 : 0.3) ? 1 : 0,
    repetitionPenalty: random() < (ahead ? 0.05 : 0.2) ? 1.3 : 1,
    minTokens: random() < (ahead ? 0.05 : 0.2) ? 1 : 0,
  });
}

/** So many turns of the event loop: the engine takes one a step, which makes traces repeatable. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}

/** Runs one request to its end; undefined where it failed. */
async function outcome(run: () => Promise<Sample[]>): Promise<Sample[] | undefined> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof Error && error.message === "the device stumbled") return undefined;
    throw error;
  }
}

for (const trace of TRACES) {
  Deno.test(`trace ${trace.seed}: invariants hold after each run, and texts are those alone`, async () => {
    const random = seeded(trace.seed);
    const stumble = () => {
      if (trace.failures && random() < 0.01) throw new Error("the device stumbled");
    };
    const adapters = new FakeAdapters({
      cold: ({ name }) => name.endsWith("2") ? Math.floor(random() * 4) : undefined,
    });
    const { ahead = 1 } = trace;
    const model = { ...MODEL, onRun: stumble, ahead };
    const second = fakeModel(model);
    const own = harness({
      adapters,
      model,
      kvMemory: trace.kvMemory,
      prefixMemory: trace.kvMemory / 2,
      laneSource: {
        bytes: () => 1,
        open: () => Promise.resolve({ model: second, close: () => Promise.resolve() }),
      },
    });
    const running: Promise<void>[] = [];
    const wrong: unknown[] = [];
    for (let id = 0; id < trace.requests; id++) {
      const control = new AbortController();
      const asked = { ...randomRequest(random, id, ahead > 1), signal: control.signal };
      const cancelled = random() < 0.15;
      const check = async () => {
        const generation = own.engine.generate(asked);
        const samples = await outcome(() => read(generation));
        if (samples === undefined || cancelled) return;
        assertEquals(
          samples,
          await alone(asked, { model: { ...MODEL, maxContext: 160 }, prefixMemory: 0 }),
        );
      };
      running.push(check().catch((error) => void wrong.push(error)));
      if (cancelled) void turns(Math.floor(random() * 40)).then(() => control.abort());
      if (random() < 0.4) await turns(Math.floor(random() * 30));
    }
    await Promise.all(running);
    if (wrong.length > 0) throw wrong[0];
    own.engine.checkIntegrity();
    const stats = own.engine.stats();
    assertEquals([stats.running, stats.waiting, stats.loading, stats.kvBytes], [0, 0, 0, 0]);
    assertEquals(adapters.held, 0);
    assert(stats.prefixHitTokens > 0, "the trace hits cached prefixes");
    if (trace.kvMemory < 5_000) assert(stats.preemptions > 0, "the trace preempts");
    if (trace.failures) assert(stats.finished.error > 0, "the trace fails");
    assert(stats.finished.abort > 0, "the trace cancels");
    await own.engine.close();
    assertEquals(own.model.blocks + second.blocks, 0);
    const steps = stats.prefillRuns + stats.decodeRuns;
    assert(steps > 500, `${steps} runs`);
    assertEquals(own.steps() < steps, ahead > 1, "steps that follow each other count as they are");
  });
}
