/** An engine over fake models, and how to read a generation whole. */
import { Engine } from "../../src/engine/engine.ts";
import type { EngineOptions } from "../../src/engine/state.ts";
import type {
  FinishReason,
  Generation,
  GenerationRequest,
  SamplingParams,
  TokenLogprob,
} from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING } from "../../src/engine/request/sampling.ts";
import { FakeAdapters } from "../fakes/adapters.ts";
import { FakeModel, type FakeModelOptions } from "../fakes/model.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";

export const tokenizer = new FakeTokenizer();

export interface HarnessOptions extends Partial<EngineOptions> {
  readonly model?: Partial<FakeModelOptions>;
  /** The lane's factor set; default "factors-a". */
  readonly factors?: string;
}

export interface Harness extends AsyncDisposable {
  readonly engine: Engine;
  readonly model: FakeModel;
  readonly adapters: FakeAdapters;
  /** Number of steps so far, each followed by `checkIntegrity()`. */
  steps(): number;
}

/** An engine of one lane; invariants are checked after every run of the model and whenever it idles. */
export function harness(options: HarnessOptions = {}): Harness {
  const model = fakeModel(options.model);
  const { factors = "factors-a" } = options;
  const adapters = options.adapters instanceof FakeAdapters ? options.adapters : new FakeAdapters();
  let steps = 0;
  let broken: unknown;
  const engine = new Engine({
    lanes: [{ factors, model }],
    tokenizer,
    eosTokenIds: [EOS],
    kvMemory: 100_000,
    aheadSeconds: Infinity,
    ...options,
    adapters,
    listener: {
      ...options.listener,
      step(observation) {
        steps++;
        engine.checkIntegrity();
        options.listener?.step?.(observation);
      },
      idle() {
        try {
          engine.checkIntegrity();
        } catch (error) {
          broken ??= error;
        }
        options.listener?.idle?.();
      },
    },
  });
  return {
    engine,
    model,
    adapters,
    steps: () => steps,
    [Symbol.asyncDispose]: async () => {
      await engine.close();
      if (broken !== undefined) throw broken;
    },
  };
}

export function fakeModel(options: Partial<FakeModelOptions> = {}): FakeModel {
  return new FakeModel({ vocabSize: tokenizer.vocabSize, ...options });
}

export type RequestOptions = Partial<Omit<GenerationRequest, "prompt" | "sampling">> & {
  readonly prompt?: string | readonly number[];
} & Partial<SamplingParams>;

/** A request; sampling fields may stand beside the others. Greedy unless it says otherwise. */
export function request(options: RequestOptions = {}): GenerationRequest {
  const { id, tenant, standing, prompt = "hello", adapter, ...rest } = options;
  const { n, priority, background = false, signal, promptLogprobs, ...sampling } = rest;
  return {
    id: id ?? `request-${crypto.randomUUID()}`,
    tenant: tenant ?? "tenant-a",
    standing,
    prompt: typeof prompt === "string" ? tokenizer.encode(prompt) : prompt,
    adapter,
    sampling: { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: 20, ...sampling },
    n: n ?? 1,
    promptLogprobs,
    priority: priority ?? 0,
    background,
    signal,
  };
}

export interface Sample {
  text: string;
  tokens: number[];
  logprobs: TokenLogprob[];
  finishReason: FinishReason | undefined;
  stopReason: string | number | undefined;
}

/** Reads a generation to its end; one sample for each index. */
export async function read(generation: Generation): Promise<Sample[]> {
  const samples: Sample[] = [];
  for await (const delta of generation) {
    const sample = samples[delta.index] ??= {
      text: "",
      tokens: [],
      logprobs: [],
      finishReason: undefined,
      stopReason: undefined,
    };
    if (sample.finishReason !== undefined) throw new Error("a delta came after the end");
    sample.text += delta.text;
    sample.tokens.push(...delta.tokens);
    sample.logprobs.push(...delta.logprobs ?? []);
    sample.finishReason = delta.finishReason;
    sample.stopReason = delta.stopReason;
  }
  return samples;
}

/** Reads a generation of one sample. */
export async function readOne(generation: Generation): Promise<Sample> {
  const [sample] = await read(generation);
  if (sample === undefined) throw new Error("the generation ended without a delta");
  return sample;
}

/** The request's answer on an engine of its own. */
export async function alone(
  asked: GenerationRequest,
  options: HarnessOptions = {},
): Promise<Sample[]> {
  const { factors } = asked.adapter ?? {};
  await using own = harness(factors === undefined ? options : { ...options, factors });
  return await read(own.engine.generate({ ...asked, signal: undefined }));
}

/** A small seeded generator for test traces (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6D2B79F5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
