/** The application over a tiny encoder of the fixtures: real weights, engine and adapters. */
import { EncoderModel, type EncoderOptions } from "../../adapters/encoder_model.ts";
import type { App } from "../../server/context.ts";
import { encoderLoaded } from "../../server/encode/loaded_encoder.ts";
import { createApp } from "../../server/http/app.ts";
import { toContext } from "../../server/loaded.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";

export interface EncoderApp extends AsyncDisposable {
  readonly app: App;
  readonly model: EncoderModel;
  /** Sends JSON; what comes back is JSON. */
  ask(path: string, json: unknown): Promise<{ readonly status: number; readonly body: Answer }>;
}

/** Whatever an endpoint answers. */
export type Answer = Record<string, unknown>;

export function encoderFolder(name: string): string {
  return new URL(`../fixtures/encoders/${name}`, import.meta.url).pathname;
}

export async function openEncoderApp(
  name: string,
  options: Partial<EncoderOptions> = {},
): Promise<EncoderApp> {
  const metrics = createMetrics();
  const { listener } = metrics;
  const model = await EncoderModel.load({ path: encoderFolder(name), listener, ...options });
  const loaded = encoderLoaded(model, name);
  metrics.attach({
    ...{ model: name, stats: () => model.engine.stats(), maxAdapters: model.maxRows },
    ...{ kvBlocks: 0, maxContext: model.maxTokens },
  });
  const context = await toContext(loaded, {
    ...{ metrics, log: createLog("error", () => {}), thread: undefined },
    options: { apiKey: undefined, maxBody: 1 << 24, version: "test" },
  });
  const app = createApp(context);
  return {
    ...{ app, model },
    async ask(path, json) {
      const body = JSON.stringify(json);
      const headers = { "content-type": "application/json" };
      const response = await app.request(path, { method: "POST", headers, body });
      return { status: response.status, body: await response.json() };
    },
    [Symbol.asyncDispose]: () => model.close(),
  };
}
