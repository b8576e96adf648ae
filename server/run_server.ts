// deno-lint-ignore-file no-console -- what a command prints is its console
/**
 * The life of `deno task serve`: flags, store, model, listening, draining, exit code. What is opened
 * is closed in the reverse order, the store last.
 */
import { defaultDataDirectory } from "../adapters/store/data_directory.ts";
import { openStore, type StoreLocation } from "../adapters/store/open_store.ts";
import type { Store } from "../adapters/store/store.ts";
import { fulfilledWithin } from "../src/util/time.ts";
import type { BatchRunner } from "./batches/runner.ts";
import { createApp } from "./http/app.ts";
import { Books } from "./books.ts";
import { Traffic } from "./telemetry/traffic.ts";
import type { ServerContext } from "./context.ts";
import { nameOfTemplate } from "./cli/named_paths.ts";
import { helpText, parseFlags, type ServeFlags } from "./cli/serve_flags.ts";
import { FlagError } from "./cli/flags.ts";
import { Replicas } from "./limits/replicas.ts";
import { JsonThread } from "./http/json_thread.ts";
import { textOf, watchUncaught } from "./last_resort.ts";
import { awaitSignal, checkAddress, listen } from "./serve.ts";
import { formatBytes } from "../src/util/bytes.ts";
import { DeviceFailedError } from "../src/util/errors.ts";
import { createMetrics, joinListeners } from "./telemetry/metrics.ts";
import { createLog, linesOf, type Log } from "./telemetry/log.ts";
import { openStoreAccess } from "./access/open_access.ts";
import { describeSampling } from "./generate/plan.ts";
import { StoreMetering } from "./usage/metering.ts";
import { TextTurns } from "./generate/text_turns.ts";
import { openTracing } from "./telemetry/tracing.ts";
import { type Loaded, type Loader, openBatches, startTuning, toContext } from "./loaded.ts";

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
  const tracing = openTracing();
  const traffic = new Traffic();
  const books = new Books(log, flags.logLevel);
  const listener = joinListeners(
    ...[metrics.listener, tracing?.listener ?? {}, traffic.listener, books.listener],
  );
  const loaded = await load(flags, listener, log);
  books.attach(loaded.engine);
  try {
    metrics.attach({
      model: flags.servedModelNames[0] ?? loaded.checkpoint.id,
      stats: () => loaded.engine.stats(),
      maxAdapters: loaded.maxBatch,
      kvBlocks: loaded.engine.kvBlocks,
      maxContext: loaded.engine.maxContext,
    });
    traffic.attach(loaded.engine);
    await using tuning = await startTuning(loaded, store, flags, { log, metrics });
    await using batches = await openBatches(loaded, store, { log, metrics });
    // an embedded database has no other server
    await using replicas = store.kind === "sqlite"
      ? undefined
      : await Replicas.join(store.database, log);
    using door = await openStoreAccess({ store, flags, env, log, print: console.log });
    const { admit } = door.access;
    if (flags.open) { for (const { tenant } of loaded.registry.list()) await admit(tenant); }
    await using metering = new StoreMetering(store, log, { replicas, admit });
    const { path, templateChoice } = loaded.checkpoint;
    using thread = path === undefined ? undefined : new TextTurns(path, templateChoice);
    using jsonThread = new JsonThread();
    thread?.start();
    jsonThread.start();
    const context = await toContext(loaded, {
      ...{ metrics, tracing, traffic, log, tuning, batches, metering },
      thread,
      jsonThread,
      readiness: [{ name: "store", check: () => store.ping() }],
      ...{ access: door.access, admin: door.admin },
      responses: { store, sealer: door.sealer, days: flags.keepResponses },
      options: { ...flags, version },
    });
    return await listenUntilSignal({ flags, loaded, context, batches, books, started });
  } finally {
    await loaded.close();
  }
}

interface Serving {
  readonly flags: ServeFlags;
  readonly loaded: Loaded;
  readonly context: ServerContext;
  readonly batches: BatchRunner;
  readonly books: Books;
  /** Milliseconds, as `performance.now` has them. */
  readonly started: number;
}

/** Seconds that cutting off running requests may take after a fatal error. */
const LAST_SECONDS = 5;

/**
 * Serves until a signal, then stops in order. After a fatal error state cannot be trusted: the
 * process cuts off its requests and ends with code 1, to be started again.
 */
async function listenUntilSignal(serving: Serving): Promise<number> {
  const { flags, loaded, context, batches, books, started } = serving;
  const { host, port, grace } = flags;
  const { log } = context;
  using resort = watchUncaught(log);
  const app = createApp(context);
  const fetch = (request: Request) => app.fetch(request);
  const server = await listen({ host, port, fetch }, context.lifecycle);
  await batches.start((line, on) => app.fetch(line, on));
  for (const line of startLines(flags, loaded, context)) log.info(line);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  log.info(`serving ${server.url}/v1 after ${seconds} s; console ${server.url}/console`);
  const stop = (seconds: number) => server.stop(seconds, () => loaded.engine.close());
  const leave = async (error: Error): Promise<never> => {
    const failed = error instanceof DeviceFailedError;
    log.error(
      `${
        failed ? error.message : textOf(error)
      }. Ending, to be started anew; what was acknowledged is kept`,
    );
    if (failed) loaded.engine.fail(error);
    const seconds = failed ? LAST_SECONDS / 2 : 0;
    await fulfilledWithin(LAST_SECONDS * 1000, stop(seconds)).catch(() => {});
    Deno.exit(1);
  };
  const signal = await Promise.race([
    awaitSignal(log),
    resort.broken.then(leave),
    loaded.deviceFailed?.then(leave) ?? new Promise<never>(() => {}),
  ]);
  log.info(`${signal}: finishing requests, for at most ${grace} s`, {
    running: context.lifecycle.active,
  });
  const [graceful] = await Promise.all([stop(grace), context.tuning?.stop(), batches.stop()]);
  const balanced = books.close();
  log.info(graceful ? "stopped" : "stopped, with requests cut short");
  return balanced ? 0 : 1;
}

function startLines(flags: ServeFlags, loaded: Loaded, context: ServerContext): string[] {
  const { model } = context;
  const sets = loaded.registry.factors.inMemory().map((set) =>
    `${set.digest.slice(0, 12)} (rank ${set.rank}, ${set.modules.join(" ")})`
  );
  const adapters = loaded.registry.list().length;
  return [
    `lembas ${context.options.version}`,
    `model ${model.id} ${model.digest.slice(0, 12)}, ${model.dtype} on ${model.device} ` +
    `(--dtype ${flags.dtype}, of a file in ${model.weightTypes.join(", ")})`,
    ...(loaded.encoder === undefined
      ? [
        `sampling where a request says nothing: ${describeSampling(model.sampling)} ` +
        `(--generation-config ${flags.generationConfig})`,
      ]
      : [
        loaded.encoder.labels === undefined
          ? `vectors of ${loaded.encoder.dimensions} numbers: /v1/embeddings, /v1/score, /v1/rerank`
          : "scores of pairs: /v1/score, /v1/rerank",
      ]),
    ...(flags.chatTemplate === undefined ? [] : [
      `chat template ${nameOfTemplate(flags.chatTemplate)} instead of the model's own ` +
      "(--chat-template)",
    ]),
    `slots ${loaded.maxBatch}, ${describeContext(flags, loaded)}`,
    `factors ${sets.length === 0 ? "none" : sets.join(", ")}`,
    `adapters ${adapters} ${flags.adapters === undefined ? "" : `in ${flags.adapters}`}`.trimEnd(),
  ];
}

/** How long a row may be, why, and what all rows together have. */
function describeContext(flags: ServeFlags, { checkpoint, engine, encoder }: Loaded): string {
  const { maxContext } = engine;
  if (encoder !== undefined) return `texts of ${maxContext} tokens, longer ones are cut`;
  const { maxPositions } = checkpoint.config;
  const why = maxContext === flags.maxContext
    ? "--max-context"
    : maxContext === maxPositions
    ? "the model's limit"
    : `what --kv-memory holds; the model's limit is ${maxPositions}`;
  const memory = formatBytes(engine.stats().kvBudget);
  return `context ${maxContext} tokens (${why}), ${memory} for all keys and values`;
}

/** A sentence where the user can mend it; with the stack where the fault is ours. */
function failureText(error: unknown, flags: ServeFlags): string {
  if (!(error instanceof Error)) return String(error);
  const internal = error.message.startsWith("internal:");
  return internal || flags.logLevel === "debug" ? error.stack ?? error.message : error.message;
}
