/**
 * What a step costs besides ONNX Runtime: scheduling, sampling's bookkeeping, detokenising, events
 * and the HTTP layer, with a model that answers at once. It owns a server context without weights;
 * no socket is opened, so a kernel's work is not in the figure.
 */
import type { Tokenizer } from "../src/checkpoint/checkpoint.ts";
import { Engine } from "../src/engine/engine.ts";
import type { BatchModel } from "../src/executor/model.ts";
import { createApp } from "../server/http/app.ts";
import type { CoreCatalog, ServerContext } from "../server/context.ts";
import { Lifecycle } from "../server/serve.ts";
import { createLog } from "../server/telemetry/log.ts";
import { createMetrics } from "../server/telemetry/metrics.ts";
import { InstantModel } from "./instant_model.ts";

/** Tokens of each prompt. */
const PROMPT = 64;

export interface OverheadBench extends AsyncDisposable {
  /** Streams `rows` completions of `tokens` tokens at once; resolves to milliseconds a step. */
  run(rows: number, tokens: number): Promise<number>;
}

/** An application over an engine of this one model, without adapters. */
export function appOver(
  tokenizer: Tokenizer,
  model: BatchModel,
): { readonly app: ReturnType<typeof createApp>; readonly engine: Engine } {
  const metrics = createMetrics();
  const engine = new Engine({
    lanes: [{ factors: undefined, model }],
    tokenizer,
    eosTokenIds: [],
    kvMemory: 2 ** 30,
    prefixMemory: 0,
    listener: metrics.listener,
  });
  metrics.attach({ model: "base", stats: () => engine.stats() });
  return { app: createApp(contextOf(engine, tokenizer, metrics)), engine };
}

/** Streams of completions whose model takes no time. */
export function openOverhead(tokenizer: Tokenizer, maxBatch: number): OverheadBench {
  const plain = plainTokens(tokenizer);
  const model = new InstantModel(tokenizer.vocabSize, maxBatch, plain);
  const { app, engine } = appOver(tokenizer, model);
  return {
    async run(rows, tokens) {
      const before = engine.stats().decodeRuns;
      const start = performance.now();
      await Promise.all(Array.from({ length: rows }, async (_, row) => {
        const prompt = Array.from(
          { length: PROMPT },
          (_, i) => plain[(row * 31 + i) % plain.length],
        );
        const response = await app.request("/v1/completions", requestOf(prompt, tokens));
        if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
        for await (const _ of response.body ?? []);
      }));
      const steps = engine.stats().decodeRuns - before;
      return (performance.now() - start) / steps;
    },
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

function requestOf(prompt: readonly (number | undefined)[], tokens: number): RequestInit {
  return {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "base",
      prompt,
      "max_tokens": tokens,
      temperature: 0,
      stream: true,
      "ignore_eos": true,
      "stream_options": { "include_usage": true },
    }),
  };
}

/** Up to 512 tokens that are text of their own. */
export function plainTokens(tokenizer: Tokenizer): number[] {
  const ids: number[] = [];
  for (let id = 0; id < tokenizer.vocabSize && ids.length < 512; id++) {
    if (!tokenizer.isSpecial(id) && tokenizer.tokenBytes(id).length > 0) ids.push(id);
  }
  return ids;
}

/** A catalogue that has no adapters. */
const NO_ADAPTERS: CoreCatalog = {
  loaded: () => [],
  list: () => Promise.resolve([]),
  find: () => Promise.resolve(undefined),
  loadPath: () => Promise.reject(new Deno.errors.NotFound("this bench loads no adapters")),
  unload: () => Promise.resolve(),
  loraFile: () => {
    throw new TypeError("this bench loads no adapters");
  },
  checkLora: () => {},
  inline: () => {
    throw new TypeError("this bench loads no adapters");
  },
};

function contextOf(
  engine: Engine,
  tokenizer: Tokenizer,
  metrics: ServerContext["metrics"],
): ServerContext {
  return {
    engine,
    model: {
      id: "base",
      root: "bench",
      created: 0,
      digest: "0".repeat(64),
      weightTypes: [],
      dtype: "none",
      device: "none",
      vocabSize: tokenizer.vocabSize,
      tokenizer,
      bosTokenId: undefined,
      eosTokenIds: [],
      chatTemplate: undefined,
      sampling: {},
    },
    adapters: NO_ADAPTERS,
    options: { apiKey: undefined, maxBody: 2 ** 24, version: "bench" },
    metrics,
    log: createLog("silent"),
    lifecycle: new Lifecycle(),
  };
}
