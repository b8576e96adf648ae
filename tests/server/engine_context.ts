/** A server context over the real engine, whose lane runs the fake model: text without weights. */
import { Engine } from "../../src/engine/engine.ts";
import type { ServerContext } from "../../server/context.ts";
import { createMetrics } from "../../server/metrics.ts";
import { FakeAdapters } from "../fakes/adapters.ts";
import { FakeModel, type FakeModelOptions } from "../fakes/model.ts";
import { EOS, FakeTokenizer } from "../fakes/tokenizer.ts";
import { type FakeCatalog, fakeContext } from "./fake_context.ts";

export interface EngineContext extends ServerContext {
  readonly engine: Engine;
  readonly adapters: FakeCatalog;
  /** Rows of each decode run so far. */
  readonly batches: readonly number[];
}

export interface EngineContextOptions extends Omit<FakeModelOptions, "vocabSize" | "onRun"> {
  readonly maxQueue?: number;
  /** Milliseconds that each run takes. */
  readonly runMilliseconds?: number;
  /** Awaited before each run, which it is given the number of. */
  readonly pace?: (run: number) => Promise<void>;
}

export function engineContext(options: EngineContextOptions = {}): EngineContext {
  const tokenizer = new FakeTokenizer();
  const batches: number[] = [];
  let runs = 0;
  const metrics = createMetrics();
  const model = new FakeModel({
    ...options,
    vocabSize: tokenizer.vocabSize,
    onRun: async (run) => {
      if (run.kind === "decode") batches.push(run.tokens.length);
      await options.pace?.(runs++);
      await new Promise((resolve) => setTimeout(resolve, options.runMilliseconds ?? 0));
    },
  });
  const engine = new Engine({
    lanes: [{ factors: "f".repeat(64), model }],
    adapters: new FakeAdapters(),
    tokenizer,
    eosTokenIds: [EOS],
    kvMemory: 1 << 20,
    listener: metrics.listener,
    ...(options.maxQueue !== undefined && { maxQueue: options.maxQueue }),
  });
  metrics.attach({ model: "tiny", stats: () => engine.stats() });
  const base = fakeContext();
  return {
    ...base,
    engine,
    metrics,
    batches,
    model: { ...base.model, tokenizer, vocabSize: tokenizer.vocabSize },
  };
}
