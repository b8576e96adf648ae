/**
 * `deno task serve` with a model without weights, for tests that need a process and its signals.
 * After a few runs the model stands still until SIGUSR1.
 */
import { AdapterRegistry } from "../../adapters/registry.ts";
import { stackOf } from "../../adapters/stack.ts";
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { type Loaded, runServer } from "../../server/run_server.ts";
import { engineContext } from "./engine_context.ts";

const CONFIG: DecoderConfig = {
  architecture: "llama",
  vocabSize: 0,
  hiddenSize: 8,
  intermediateSize: 16,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  maxPositions: 256,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  ropeScaling: { type: "none" },
  tieEmbeddings: true,
  qkvBias: false,
  outputBias: false,
  qkNorm: false,
  slidingWindow: undefined,
  bosTokenId: undefined,
  eosTokenIds: [],
};

/** Runs before the model stands still. */
const FREE_RUNS = 5;

function load(): Promise<Loaded> {
  const { promise: resumed, resolve } = Promise.withResolvers<void>();
  Deno.addSignalListener("SIGUSR1", () => resolve());
  const { engine, model } = engineContext({
    pace: (run) => run < FREE_RUNS ? Promise.resolve() : resumed,
  });
  const { tokenizer, chatTemplate, vocabSize } = model;
  return Promise.resolve({
    engine,
    checkpoint: {
      id: "tiny",
      config: { ...CONFIG, vocabSize },
      tokenizer,
      chatTemplate,
      digest: () => Promise.resolve("ab".repeat(32)),
    },
    registry: new AdapterRegistry({ stack: stackOf("ab".repeat(32), CONFIG) }),
    readAdapter: () => Promise.reject(new RangeError("there are none")),
    source: "tiny",
    device: "cpu",
    dtype: "int8",
    maxBatch: 4,
    close: () => engine.close(),
  });
}

if (import.meta.main) {
  const env = (name: string) => Deno.env.get(name);
  Deno.exit(await runServer({ args: Deno.args, env, version: "0.0.0", load }));
}
