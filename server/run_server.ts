// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * The life of `deno task serve`: flags, loading, listening, draining, exit code. It owns the order
 * and what is printed; the loader is passed in, and what it loads is closed here.
 */
import type { AdapterDirectory } from "../adapters/catalog/directory.ts";
import type { FactorSet } from "../adapters/lotr/factors.ts";
import type { AdapterRegistry } from "../adapters/catalog/registry.ts";
import { defaultDataDirectory } from "../adapters/store/data_directory.ts";
import { openStore, type StoreLocation } from "../adapters/store/open_store.ts";
import type { Store } from "../adapters/store/store.ts";
import type { CoreTrainer } from "../adapters/training/core_trainer.ts";
import type { Checkpoint, SamplingDefaults } from "../src/checkpoint/checkpoint.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import { fulfilledWithin, unixSeconds } from "../src/util/time.ts";
import { readDatasetInTurns } from "../src/train/data/dataset.ts";
import { readDatasetOnThread } from "../src/train/data/dataset_thread.ts";
import { createApp } from "./http/app.ts";
import { Books } from "./books.ts";
import { Catalog } from "../adapters/catalog/catalog.ts";
import { Traffic } from "./console/traffic.ts";
import type { ServedModel, ServerContext } from "./context.ts";
import { helpText, parseFlags, type ServeFlags } from "./cli/serve_flags.ts";
import { FlagError } from "./cli/flags.ts";
import { FineTuning, type TrainingBackend } from "./jobs/fine_tuning.ts";
import { Replicas } from "./limits/replicas.ts";
import { JsonThread } from "./http/json_thread.ts";
import { textOf, watchUncaught } from "./last_resort.ts";
import { awaitSignal, checkAddress, Lifecycle, listen } from "./serve.ts";
import { createMetrics, joinListeners } from "./telemetry/metrics.ts";
import { createLog, linesOf, type Log } from "./telemetry/log.ts";
import { openStoreAccess } from "./access/open_access.ts";
import { describeSampling } from "./generate/sampling.ts";
import { StoreMetering } from "./usage/metering.ts";
import { TextTurns } from "./generate/text_turns.ts";
import { Tracing } from "./telemetry/tracing.ts";

/** Training over a loaded base. */
export interface LoadedTraining {
  readonly trainer: Pick<CoreTrainer, "train">;
  /** Most tokens of a training row. */
  readonly maxContext: number;
  /** The factor set of jobs that name none; made when first asked for. */
  defaultFactors(): Promise<FactorSet>;
}

/** A model ready to serve, with its adapters; the server closes it. */
export interface Loaded {
  readonly checkpoint:
    & Pick<Checkpoint, "id" | "config" | "tokenizer" | "chatTemplate" | "digest">
    & Partial<Pick<Checkpoint, "path">>;
  readonly engine: Engine;
  readonly registry: AdapterRegistry;
  /** Where `/v1/load_lora_adapter` reads; undefined = it does not. */
  readonly directory: AdapterDirectory | undefined;
  /** Where the checkpoint came from, for `/v1/models`. */
  readonly source: string;
  readonly device: string;
  readonly dtype: string;
  readonly maxBatch: number;
  readonly sampling: SamplingDefaults;
  /** What trains over this base; undefined = it only serves. */
  readonly training?: LoadedTraining | undefined;
  close(): Promise<void>;
}

/** Loads what the flags name; the engine reports to `listener`. */
export type Loader = (flags: ServeFlags, listener: EngineListener, log: Log) => Promise<Loaded>;

/** What a process gives a command. */
export interface CommandEnvironment {
  readonly args: readonly string[];
  readonly env: (name: string) => string | undefined;
  readonly version: string;
  readonly load: Loader;
}

/** Runs the command; resolves with the exit code. */
export async function runServer(command: CommandEnvironment): Promise<number> {
  let parsed;
  try {
    parsed = parseFlags(command.args, command.env);
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    console.error(error.message);
    return 2;
  }
  switch (parsed.type) {
    case "help":
      console.log(helpText());
      return 0;
    case "version":
      console.log(`lembas ${command.version}`);
      return 0;
    case "serve":
      return await serve(parsed.flags, command);
  }
}

async function serve(flags: ServeFlags, command: CommandEnvironment): Promise<number> {
  const log = createLog(flags.logLevel, undefined, linesOf(flags.logFormat));
  try {
    await checkAddress(flags.host, flags.port);
    await using store = await openStore(locationOf(flags, command.env), log);
    return await serveFrom(store, flags, command, log);
  } catch (error) {
    log.error(failureText(error, flags));
    return 1;
  }
}

function locationOf(
  { data, databaseUrl }: ServeFlags,
  env: CommandEnvironment["env"],
): StoreLocation {
  return databaseUrl === undefined
    ? { type: "directory", path: data ?? defaultDataDirectory(env) }
    : { type: "url", url: databaseUrl };
}

async function serveFrom(
  store: Store,
  flags: ServeFlags,
  { load, version, env }: CommandEnvironment,
  log: Log,
): Promise<number> {
  const metrics = createMetrics();
  const started = performance.now();
  const tracing = new Tracing();
  const traffic = new Traffic();
  const books = new Books(log, flags.logLevel);
  const listener = joinListeners(
    ...[metrics.listener, tracing.listener, traffic.listener, books.listener],
  );
  const loaded = await load(flags, listener, log);
  books.attach(loaded.engine);
  try {
    metrics.attach({
      model: loaded.checkpoint.id,
      stats: () => loaded.engine.stats(),
      maxAdapters: loaded.maxBatch,
      kvBlocks: loaded.engine.kvBlocks,
    });
    traffic.attach(() => loaded.engine.stats());
    await using tuning = await startTuning(loaded, store, flags, { log, metrics });
    await using replicas = await Replicas.join(store.database, log);
    using door = await openStoreAccess({ store, flags, env, log, print: console.log });
    const { admit } = door.access;
    if (flags.open) { for (const { tenant } of loaded.registry.list()) await admit(tenant); }
    await using metering = new StoreMetering(store, log, { replicas: () => replicas.count, admit });
    const { path } = loaded.checkpoint;
    using thread = path === undefined ? undefined : new TextTurns(path);
    using jsonThread = new JsonThread();
    thread?.start();
    jsonThread.start();
    const context = await toContext(loaded, {
      ...{ metrics, tracing, traffic, log, tuning, metering },
      thread,
      jsonThread,
      readiness: [{ name: "store", check: () => store.ping() }],
      ...{ access: door.access, admin: door.admin },
      options: {
        apiKey: flags.apiKey,
        maxBodyBytes: flags.maxBody,
        version,
        metricsAccess: flags.metricsAccess,
        allowedHosts: flags.allowedHosts,
        corsOrigins: flags.corsOrigins,
      },
    });
    return await listenUntilSignal({ flags, loaded, context, books, started });
  } finally {
    await loaded.close();
  }
}

/** Serves what was tuned, and takes up jobs, over a loaded model. */
export function startTuning(
  loaded: Loaded,
  store: Store,
  flags: Pick<ServeFlags, "trainJobs" | "maxFile">,
  { log, metrics }: Pick<ServerContext, "log" | "metrics">,
): Promise<FineTuning> {
  return FineTuning.start({
    store,
    registry: loaded.registry,
    backend: loaded.training && backendOf(loaded, loaded.training),
    model: loaded.checkpoint.id,
    maxJobs: flags.trainJobs,
    maxFileBytes: flags.maxFile,
    log,
    metrics: metrics.training,
  });
}

function backendOf({ checkpoint }: Loaded, training: LoadedTraining): TrainingBackend {
  const { trainer, maxContext } = training;
  const { path } = checkpoint;
  return {
    trainer,
    defaultFactors: () => training.defaultFactors(),
    reader: path === undefined
      ? (file, signal) => readDatasetInTurns(file, { source: checkpoint, maxContext, signal })
      : (file, signal) => readDatasetOnThread(file, { path, maxContext, signal }),
  };
}

/** The routes' context of a loaded model. */
export async function toContext(
  loaded: Loaded,
  { thread, ...parts }:
    & Omit<ServerContext, "engine" | "adapters" | "lifecycle" | "model">
    & Pick<ServedModel, "thread">,
): Promise<ServerContext> {
  const { checkpoint, engine, registry } = loaded;
  return {
    ...parts,
    engine,
    adapters: new Catalog({
      registry,
      directory: loaded.directory,
      stored: parts.tuning?.cores,
      tuned: parts.tuning?.tuned,
      admit: parts.access?.admit,
    }),
    lifecycle: new Lifecycle(),
    model: {
      id: checkpoint.id,
      root: loaded.source,
      created: unixSeconds(),
      digest: await checkpoint.digest(),
      dtype: loaded.dtype,
      device: loaded.device,
      // a model's padding beyond its tokenizer's vocabulary spells nothing
      vocabSize: Math.min(checkpoint.config.vocabSize, checkpoint.tokenizer.vocabSize),
      tokenizer: checkpoint.tokenizer,
      chatTemplate: checkpoint.chatTemplate,
      sampling: loaded.sampling,
      thread,
    },
  };
}

interface Serving {
  readonly flags: ServeFlags;
  readonly loaded: Loaded;
  readonly context: ServerContext;
  readonly books: Books;
  /** Milliseconds, as `performance.now` has them. */
  readonly started: number;
}

/** What a process that ends in disorder gets for cutting off requests that run. */
const LAST_SECONDS = 5;

/**
 * Where state may be broken nothing known can be trusted: then nothing is left to close in order, and
 * the process ends with code 1, so that whoever watches it starts it anew.
 */
async function listenUntilSignal(serving: Serving): Promise<number> {
  const { flags, loaded, context, books, started } = serving;
  const { host, port, grace } = flags;
  const { log } = context;
  using resort = watchUncaught(log);
  const { fetch } = createApp(context);
  const server = await listen({ host, port, fetch }, context.lifecycle);
  for (const line of startLines(flags, loaded, context)) log.info(line);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  log.info(`serving ${server.url}/v1 after ${seconds} s`);
  const stop = (seconds: number) => server.stop(seconds, () => loaded.engine.close());
  const leave = async (error: Error): Promise<never> => {
    log.error(`${textOf(error)}. Ending, to be started anew; what was acknowledged is kept`);
    await fulfilledWithin(LAST_SECONDS * 1000, stop(0)).catch(() => {});
    Deno.exit(1);
  };
  const signal = await Promise.race([
    awaitSignal(log),
    resort.broken.then(leave),
  ]);
  log.info(`${signal}: finishing requests, for at most ${grace} s`, {
    running: context.lifecycle.active,
  });
  const [graceful] = await Promise.all([stop(grace), context.tuning?.stop()]);
  const balanced = books.close();
  log.info(graceful ? "stopped" : "stopped, with requests cut short");
  return balanced ? 0 : 1;
}

function startLines(flags: ServeFlags, loaded: Loaded, context: ServerContext): string[] {
  const { model } = context;
  const sets = loaded.registry.factorSets().map((set) =>
    `${set.digest.slice(0, 12)} (rank ${set.rank}, ${set.modules.join(" ")})`
  );
  const adapters = loaded.registry.list().length;
  return [
    `lembas ${context.options.version}`,
    `model ${model.id} ${model.digest.slice(0, 12)}, ${model.dtype} on ${model.device}`,
    `sampling where a request says nothing: ${describeSampling(model.sampling)} ` +
    `(--generation-config ${flags.generationConfig})`,
    `slots ${loaded.maxBatch}, context ${loaded.engine.maxContext} tokens`,
    `factors ${sets.length === 0 ? "none" : sets.join(", ")}`,
    `adapters ${adapters} ${flags.adapters === undefined ? "" : `in ${flags.adapters}`}`.trimEnd(),
  ];
}

/** A sentence for what the user can mend; a stack where the fault is ours. */
function failureText(error: unknown, flags: ServeFlags): string {
  if (!(error instanceof Error)) return String(error);
  const internal = error.message.startsWith("internal:");
  return internal || flags.logLevel === "debug" ? error.stack ?? error.message : error.message;
}
