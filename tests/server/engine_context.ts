/**
 * What the loader would give the server, with everything real but the weights: engine, adapters,
 * their cache and directory, grammars; only the lane's model is the fake one.
 */
import { CoreCache } from "../../adapters/catalog/cache.ts";
import { type Core, coreFrom } from "../../adapters/lotr/core.ts";
import { AdapterDirectory } from "../../adapters/catalog/directory.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { AdapterRegistry } from "../../adapters/catalog/registry.ts";
import { stackOf } from "../../adapters/lotr/stack.ts";
import type { ServerContext } from "../../server/context.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { type Loaded, type LoadedTraining, toContext } from "../../server/loaded.ts";
import type {
  ChatTemplate,
  DecoderConfig,
  SamplingDefaults,
} from "../../src/checkpoint/checkpoint.ts";
import { Engine } from "../../src/engine/engine.ts";
import { GrammarPool } from "../../src/grammar/pool.ts";
import type { EngineListener } from "../../src/engine/metrics.ts";
import { plainForm } from "../fakes/form.ts";
import { FakeModel, type FakeModelOptions } from "../fakes/model.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";

const BASE = "ab".repeat(32);

const CONFIG: DecoderConfig = {
  ...plainForm(4),
  architecture: "llama",
  vocabSize: new FakeTokenizer().vocabSize,
  hiddenSize: 8,
  intermediateSize: 16,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 2,
  headDim: 4,
  maxPositions: 256,
  rmsNormEps: 1e-5,
  tieEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  bosTokenId: undefined,
  eosTokenIds: [EOS],
};

const TEMPLATE: ChatTemplate = {
  source: "",
  render: (messages) => messages.map(({ role, content }) => `${role}: ${content}\n\n`).join(""),
};

export interface FakeLoadOptions extends Omit<FakeModelOptions, "vocabSize" | "onRun"> {
  readonly maxQueue?: number;
  /** Bytes; a lane takes a MiB. */
  readonly laneMemory?: number;
  readonly sampling?: SamplingDefaults;
  /** Awaited before each run, which it is given the number of. */
  readonly pace?: (run: number) => Promise<void>;
  /** The root of a directory of adapters. */
  readonly directory?: string;
  readonly listener?: EngineListener;
  readonly training?: LoadedTraining;
}

export interface FakeLoaded extends Loaded {
  readonly factors: FactorSet;
  /** Rows of each decode run so far. */
  readonly batches: readonly number[];
}

export async function fakeLoad(options: FakeLoadOptions = {}): Promise<FakeLoaded> {
  const stack = stackOf(BASE, CONFIG);
  const factors = randomFactors({ stack, rank: 4 });
  const registry = new AdapterRegistry({ stack });
  registry.factors.add(factors);
  const batches: number[] = [];
  const engine = fakeEngine(options, registry, factors, batches);
  return {
    engine,
    registry,
    factors,
    batches,
    directory: options.directory === undefined
      ? undefined
      : await AdapterDirectory.open(options.directory, registry),
    checkpoint: {
      id: "tiny",
      config: CONFIG,
      tokenizer: new FakeTokenizer(),
      chatTemplate: TEMPLATE,
      digest: () => Promise.resolve(BASE),
    },
    source: "nowhere",
    device: "cpu",
    dtype: "int8",
    weightTypes: ["Q4_K", "Q6_K"],
    sampling: options.sampling ?? {},
    maxBatch: options.maxBatch ?? 4,
    training: options.training,
    close: () => engine.close(),
  };
}

function fakeEngine(
  options: FakeLoadOptions,
  registry: AdapterRegistry,
  factors: FactorSet,
  batches: number[],
): Engine {
  const tokenizer = new FakeTokenizer();
  const { vocabSize } = tokenizer;
  let runs = 0;
  const model = new FakeModel({
    ...options,
    vocabSize,
    onRun: async (run) => {
      if (run.kind === "decode") batches.push(run.tokens.length);
      await options.pace?.(runs++);
    },
  });
  return new Engine({
    lanes: [{ factors: factors.digest, model }],
    laneSource: {
      bytes: (digest) => registry.factors.has(digest) ? 1 << 20 : undefined,
      open: () => {
        const model = new FakeModel({ ...options, vocabSize });
        return Promise.resolve({ model, close: () => Promise.resolve() });
      },
    },
    adapters: new CoreCache({ loader: registry, maxBytes: 1 << 20 }),
    tokenizer,
    eosTokenIds: [EOS],
    kvMemory: 1 << 20,
    grammars: new GrammarPool({ tokenizer, vocabSize, stopTokens: [EOS] }),
    ...(options.listener && { listener: options.listener }),
    ...(options.maxQueue !== undefined && { maxQueue: options.maxQueue }),
    ...(options.laneMemory !== undefined && { laneMemory: options.laneMemory }),
  });
}

/** A core whose numbers follow from a seed. */
export function someCore(factors: FactorSet, seed: number): Core {
  const length = factors.layers * factors.modules.length * 4;
  return coreFrom(factors, 2, Float32Array.from({ length }, (_, i) => Math.sin(seed + i)));
}

/** A context over what `fakeLoad` gives. */
export async function engineContext(
  options: FakeLoadOptions = {},
): Promise<{ readonly context: ServerContext; readonly loaded: FakeLoaded }> {
  const metrics = createMetrics();
  const loaded = await fakeLoad({ ...options, listener: metrics.listener });
  metrics.attach({ model: "tiny", stats: () => loaded.engine.stats() });
  const context = await toContext(loaded, {
    metrics,
    log: createLog("silent"),
    options: { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" },
  });
  return { context, loaded };
}
