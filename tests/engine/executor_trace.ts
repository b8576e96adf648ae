/**
 * A seeded trace of arrivals, cancels, cold cores and shortage on the real executor: two lanes of a
 * tiny checkpoint on one base. All invariants hold after every run, and every finished text is what
 * its request says alone, token by token, in a batch of one on the CPU.
 *
 * Alone and in company, float32 sums differ in their last digits, so a token counts as the one alone
 * where its logit is within rounding of the largest, or its uniform number within rounding of its
 * interval: for all but a few in a million tokens that means the same token.
 */
import { setImmediate } from "node:timers";
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { toResident } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import type {
  AdapterSource,
  CoreLease,
  GenerationRequest,
  ServedCore,
} from "../../src/engine/request/request.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { ResidentCore } from "../../src/executor/model.ts";
import { uniformAt } from "../../src/executor/philox.ts";
import { MODULES } from "../../src/models/hook.ts";
import { read, request, type Sample, seeded } from "./harness.ts";
import { distribution } from "./naive_sampler.ts";
import { adapter } from "../fakes/adapters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { randomCore, randomPrompt, Tiny } from "./tiny.ts";

const ROUNDING = 1e-4;

/** Real cores of two factor sets; some take a few turns of the event loop to come. */
class TraceCores implements AdapterSource {
  readonly refs: readonly ServedCore[];
  held = 0;
  readonly #cores = new Map<string, ResidentCore>();

  constructor(sets: readonly FactorSet[], each: number) {
    this.refs = sets.flatMap((set, s) =>
      Array.from({ length: each }, (_, i) => {
        const core = toResident(randomCore(set, s * 100 + i, 1.5), set);
        this.#cores.set(core.digest, core);
        return { ...adapter(`set-${s}/core-${i}`, set.digest), digest: core.digest };
      })
    );
  }

  core(digest: string): ResidentCore | undefined {
    return this.#cores.get(digest);
  }

  acquire(ref: ServedCore): CoreLease | Promise<CoreLease> {
    return ref.name.endsWith("3") ? turns(3).then(() => this.#lease(ref)) : this.#lease(ref);
  }

  #lease({ digest, name }: ServedCore): CoreLease {
    const core = this.#cores.get(digest);
    if (core === undefined) throw new RangeError(`the trace has no core ${name}`);
    this.held++;
    return { core, release: () => void this.held-- };
  }
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}

function pick<T>(random: () => number, values: readonly T[]): T {
  return values[Math.floor(random() * values.length)];
}

/** Prompts share openings of up to two cached blocks, so that prefixes are hit across requests. */
function randomRequest(
  random: () => number,
  { id, longest, refs }: { id: number; longest: number; refs: readonly ServedCore[] },
): GenerationRequest {
  const opening = randomPrompt(70, 1).slice(0, pick(random, [0, 0, 35, 70]));
  const own = randomPrompt(1 + Math.floor(random() * 40), 1000 + id);
  const adapter = random() < 0.7 ? pick(random, refs) : undefined;
  return {
    ...request({
      id: `${id}`,
      tenant: `tenant-${Math.floor(random() * 2)}`,
      priority: random() < 0.2 ? Math.floor(random() * 5) - 2 : 0,
      temperature: random() < 0.6 ? 0 : 1,
      ...(random() < 0.2 ? { topP: 0.8 } : {}),
      seed: id,
      maxTokens: 1 + Math.floor(random() * longest),
      ignoreEos: random() < 0.5,
    }),
    prompt: [...opening, ...own],
    adapter,
  };
}

/** Log-probabilities of the whole vocabulary from the last step's first row, as logits. */
async function logitsOf(model: Executor): Promise<Float32Array> {
  const logprobs = model.vocabSize;
  const [{ top = [] }] = await model.sample([{ row: 0, temperature: 0, uniform: 0, logprobs }]);
  const out = new Float32Array(logprobs).fill(NaN);
  for (const { token, logprob } of top) out[token] = logprob;
  return out;
}

/** Says a finished text again, alone and token by token; fails where a token is another. */
async function replay(
  model: Executor,
  asked: GenerationRequest,
  core: ResidentCore | undefined,
  { tokens }: Sample,
): Promise<void> {
  const { prompt, sampling, id } = asked;
  model.setAdapter(0, core);
  await model.prefill([{ slot: 0, tokens: prompt, past: 0, last: true }]);
  for (const [i, token] of tokens.entries()) {
    if (i > 0) await model.decode([tokens[i - 1]], [prompt.length + i - 1]);
    const logits = await logitsOf(model);
    const { temperature, topP } = sampling;
    const what = `request ${id}, token ${i}`;
    if (temperature === 0) {
      assertLess(Math.max(...logits) - logits[token], ROUNDING, what);
      continue;
    }
    const uniform = uniformAt(sampling.seed ?? 0, 0, i);
    const row = { row: 0, temperature, uniform, topP };
    const { probabilities } = distribution(logits, row);
    const before = probabilities.subarray(0, token).reduce((sum, p) => sum + p, 0);
    const after = before + probabilities[token];
    assert(before - ROUNDING < uniform && uniform < after + ROUNDING, what);
  }
}

export interface Trace {
  readonly seed: number;
  readonly requests: number;
  /** Tokens of the longest output. */
  readonly longest: number;
  /** Tokens that the KV memory holds. */
  readonly kvTokens: number;
  /** Runs of the model that the trace takes at least. */
  readonly steps: number;
}

/** What a trace came to. */
export interface Traced {
  /** Runs of the model. */
  readonly steps: number;
  readonly preemptions: number;
  readonly prefixHitTokens: number;
  /** Steps that followed others without the host in between. */
  readonly ahead: number;
}

/** Runs a trace, by default on the CPU; fails where something does not hold. */
export async function runTrace(trace: Trace, device?: Device): Promise<Traced> {
  using tiny = await Tiny.open("llama", {
    maxBatch: 5,
    maxContext: 200,
    ...(device === undefined ? {} : { device }),
  });
  const sets = [tiny.factors(8, ["q_proj", "v_proj"], 1), tiny.factors(4, MODULES, 2)];
  const lanes = [await tiny.base.lane(sets[0]), await tiny.base.lane(sets[1])];
  const adapters = new TraceCores(sets, 4);
  let observed = 0;
  const engine = new Engine({
    lanes: lanes.map((model, i) => ({ factors: sets[i].digest, model })),
    adapters,
    tokenizer: tiny.checkpoint.tokenizer,
    eosTokenIds: tiny.checkpoint.config.eosTokenIds,
    kvMemory: trace.kvTokens * lanes[0].kvBytesPerToken,
    // also on a machine that is busy
    aheadSeconds: Infinity,
    listener: {
      step() {
        observed++;
        engine.checkIntegrity();
      },
    },
  });
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => engine.close());
  const random = seeded(trace.seed);
  const finished: { asked: GenerationRequest; sample: Sample }[] = [];
  const running: Promise<void>[] = [];
  for (let id = 0; id < trace.requests; id++) {
    const control = new AbortController();
    const shape = { id, longest: trace.longest, refs: adapters.refs };
    const asked = { ...randomRequest(random, shape), signal: control.signal };
    const cancelled = random() < 0.15;
    running.push(
      read(engine.generate(asked)).then(([sample]) => {
        if (sample?.finishReason !== "abort") finished.push({ asked, sample });
      }),
    );
    if (cancelled) void turns(Math.floor(random() * 60)).then(() => control.abort());
    if (random() < 0.6) await turns(Math.floor(random() * 30));
  }
  await Promise.all(running);
  engine.checkIntegrity();
  const stats = engine.stats();
  const steps = stats.prefillRuns + stats.decodeRuns;
  assertEquals([stats.running, stats.waiting, stats.loading, stats.kvBytes], [0, 0, 0, 0]);
  assertEquals(adapters.held, 0);
  assertGreater(stats.finished.abort, 0);
  if (trace.kvTokens < 1000) assertGreater(stats.preemptions, 3);
  else assertGreater(stats.prefixHitTokens, 500);
  assertGreater(steps, trace.steps);
  assertGreater(finished.length, trace.requests * 0.7);
  await engine.close();

  const alone = new Map(sets.map((set, i) => [set.digest, i] as const));
  using single = await Tiny.open("llama", { maxBatch: 1, maxContext: 200 });
  const models = [await single.base.lane(sets[0]), await single.base.lane(sets[1])];
  for (const { asked, sample } of finished) {
    const { adapter } = asked;
    const model = models[alone.get(adapter?.factors ?? "") ?? 0];
    const core = adapter === undefined ? undefined : adapters.core(adapter.digest);
    await replay(model, asked, core, sample);
  }
  const { preemptions, prefixHitTokens } = stats;
  return { steps, ahead: steps - observed, preemptions, prefixHitTokens };
}
