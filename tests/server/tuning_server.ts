/**
 * A listening server that fine-tunes: the real store, runner and trainer over a model whose
 * gradients are closed formulas, and the engine over the fake model. It can be stopped and started
 * again on the same directory.
 */
import OpenAI from "openai";
import { CoreTrainer } from "../../adapters/training/core_trainer.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { createApp } from "../../server/http/app.ts";
import { openAccess } from "../../server/access/access.ts";
import type { FineTuning } from "../../server/jobs/fine_tuning.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import {
  type Loaded,
  type LoadedTraining,
  openBatches,
  startTuning,
  toContext,
} from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";
import { StoreMetering } from "../../server/usage/metering.ts";
import { openStore, type StoreLocation } from "../../adapters/store/open_store.ts";
import type { Store } from "../../adapters/store/store.ts";
import type { EngineListener } from "../../src/engine/metrics.ts";
import type { Example, GradientModel, MicroBatch } from "../../src/train/gradients/model.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { FakeGradientModel, VOCABULARY } from "../fakes/gradient_model.ts";
import { fakeLoad, type FakeLoaded } from "./engine_context.ts";

/** A file of prompts and completions; each of the fake's steps takes four of them. */
export const ROWS = rowsOf(24);

export function rowsOf(count: number): string {
  return Array.from({ length: count }, (_, i) => {
    const [prompt, completion] = [`row ${i % 7} is`, ` ${"abcdefgh"[i % 8]}${"xyz"[i % 3]}.`];
    return JSON.stringify({ prompt, completion }) + "\n";
  }).join("");
}

/** Hyperparameters with which the fake learns in a few steps. */
export const FAST = { n_epochs: 3, batch_size: 4, learning_rate_multiplier: 15 } as const;

/** Says what a model answers, greedily. */
export async function say(client: OpenAI, model: string): Promise<string> {
  const { choices } = await client.completions.create({
    model,
    prompt: "hello",
    max_tokens: 12,
    temperature: 0,
  });
  return choices[0]?.text ?? "";
}

export interface TrainingOptions {
  /** Awaited before each micro-batch of a step; one step has one, or a few. */
  readonly pace?: (() => Promise<void> | void) | undefined;
  /** Gradients point the wrong way, so that every step makes it worse. */
  readonly contrary?: boolean;
}

/** The real trainer over closed formulas. */
export function fakeTraining(
  factors: () => FactorSet,
  { pace, contrary = false }: TrainingOptions = {},
): LoadedTraining {
  const open = (set: FactorSet) => {
    const inner = new FakeGradientModel({
      // what rows share counts once, so that more of them fit than the fake would think
      maxTokens: 1 << 16,
      maxContext: 128,
      table: ({ rank }) => set.layers * set.modules.length * rank ** 2,
      before: async (_batch, kind) => {
        if (kind === "gradients") await pace?.();
      },
    });
    return Promise.resolve(folded(inner, contrary ? -1 : 1));
  };
  const defaultFactors = () => Promise.resolve(factors());
  const trainer = new CoreTrainer({ models: { core: open, lotr: open }, defaultFactors });
  return { trainer, maxContext: 128, defaultFactors };
}

/** Any tokens as those of the fake's small vocabulary. */
function folded(inner: FakeGradientModel, sign: number): GradientModel {
  const fold = ({ rows, trainables }: MicroBatch): MicroBatch => ({
    trainables,
    rows: rows.map(({ example, trainable }) => ({ example: foldRow(example), trainable })),
  });
  return {
    maxTokens: 256,
    maxContext: inner.maxContext,
    losses: (batch, signal) => inner.losses(fold(batch), signal),
    gradients: async (batch, signal) => {
      const { rows, gradients } = await inner.gradients(fold(batch), signal);
      return { rows, gradients: gradients.map((one) => one.map((value) => sign * value)) };
    },
    release: () => inner.release(),
  };
}

function foldRow(example: Example): Example {
  return { ...example, tokens: example.tokens.map((token) => token % VOCABULARY) };
}

export interface TuningServer<L extends Loaded = FakeLoaded> {
  readonly client: OpenAI;
  readonly url: string;
  readonly loaded: L;
  readonly store: Store;
  readonly tuning: FineTuning;
  readonly lines: readonly string[];
  stop(): Promise<void>;
}

export interface ServerOptions extends TrainingOptions {
  /** Awaited before each run of the engine, which it is given the number of. */
  readonly run?: ((run: number) => Promise<void>) | undefined;
  /** Where it keeps its data; text = a directory. */
  readonly data: string | StoreLocation;
  readonly maxJobs?: number;
  readonly maxFile?: number;
  /** Without anything that trains. */
  readonly serveOnly?: boolean;
}

export function startServer(options: ServerOptions): Promise<TuningServer> {
  return serveLoaded(async (listener): Promise<FakeLoaded> => {
    const loaded = await fakeLoad({ listener, ...(options.run && { pace: options.run }) });
    const training = options.serveOnly ? undefined : fakeTraining(() => loaded.factors, options);
    return { ...loaded, training };
  }, options);
}

/** A listening server over whatever was loaded; it closes that when it stops. */
export async function serveLoaded<L extends Loaded>(
  load: (listener: EngineListener) => Promise<L>,
  { data, maxJobs = 4, maxFile = 1 << 20 }: Pick<ServerOptions, "data" | "maxJobs" | "maxFile">,
): Promise<TuningServer<L>> {
  const lines: string[] = [];
  const log = createLog("info", (line) => lines.push(line));
  const store = await openStore(locationOf(data), log);
  const metrics = createMetrics();
  const loaded = await load(metrics.listener);
  metrics.attach({ model: loaded.checkpoint.id, stats: () => loaded.engine.stats() });
  const tuning = await startTuning(loaded, store, { trainJobs: maxJobs, maxFile }, {
    log,
    metrics,
  });
  const batches = await openBatches(loaded, store, { log, metrics });
  const metering = new StoreMetering(store, log, { admit: openAccess(store.tenants).admit });
  const context = await toContext(loaded, {
    metrics,
    log,
    tuning,
    batches,
    metering,
    access: openAccess(store.tenants),
    options: { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" },
  });
  const app = createApp(context);
  const { fetch } = app;
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  await batches.start((line, on) => app.fetch(line, on));
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  const stop = async () => {
    const served = server.stop(5, () => loaded.engine.close());
    await Promise.all([served, tuning.stop(), batches.stop()]);
    await metering[Symbol.asyncDispose]();
    await loaded.close();
    await store[Symbol.asyncDispose]();
  };
  return { client, url: server.url, loaded, store, tuning, lines, stop };
}

function locationOf(data: ServerOptions["data"]): StoreLocation {
  return typeof data === "string" ? { type: "directory", path: data } : data;
}

/** Runs `body` with a server on a directory of its own. */
export async function withServer(
  body: (server: TuningServer, data: string) => Promise<void>,
  options: Omit<ServerOptions, "data"> = {},
): Promise<void> {
  const data = await newDataDirectory();
  try {
    const server = await startServer({ ...options, data });
    try {
      await body(server, data);
    } finally {
      await server.stop();
    }
  } finally {
    await Deno.remove(data, { recursive: true });
  }
}

/** A client that acts for a tenant, where the server lets it. */
export function actingFor(client: OpenAI, tenant: string): OpenAI {
  return client.withOptions({ defaultHeaders: { "lembas-tenant": tenant } });
}

/** Uploads rows; returns the file's id. */
export async function upload(client: OpenAI, rows = ROWS, name = "rows.jsonl"): Promise<string> {
  const file = new File([rows], name);
  return (await client.files.create({ file, purpose: "fine-tune" })).id;
}

type Job = OpenAI.FineTuning.Jobs.FineTuningJob;

/** Asks until a job's status is one of these. */
export async function until(client: OpenAI, id: string, ...statuses: string[]): Promise<Job> {
  while (true) {
    const job = await client.fineTuning.jobs.retrieve(id);
    if (statuses.includes(job.status)) return job;
    if (["succeeded", "failed", "cancelled"].includes(job.status)) {
      throw new Error(`${id} is ${job.status}: ${JSON.stringify(job.error)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
