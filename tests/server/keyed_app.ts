/**
 * The whole application over a real store with two tenants and their keys: real engine, trainer,
 * jobs and adapters over a model without weights. For tests of keys, administration and isolation;
 * requests go in by `app.request()`.
 */
import { writeCore } from "../../adapters/lotr/format.ts";
import type { Scope, Store } from "../../adapters/store/store.ts";
import { createApp } from "../../server/http/app.ts";
import { Traffic } from "../../server/telemetry/traffic.ts";
import type { App, ServerContext } from "../../server/context.ts";
import { issueKey } from "../../server/access/keys.ts";
import { createMetrics, joinListeners } from "../../server/telemetry/metrics.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { openStoreAccess } from "../../server/access/open_access.ts";
import { openBatches, startTuning, toContext } from "../../server/loaded.ts";
import { StoreMetering } from "../../server/usage/metering.ts";
import { openTestStore } from "../adapters/store/test_store.ts";
import { fakeLoad, type FakeLoaded, someCore } from "./engine_context.ts";
import { fakeTraining } from "./tuning_server.ts";

export type Json = Record<string, unknown>;

/** What is sent besides method and path. */
export interface Asked {
  readonly key?: string | undefined;
  readonly json?: unknown;
  readonly body?: BodyInit;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface KeyedApp extends AsyncDisposable {
  readonly app: App;
  readonly context: ServerContext;
  readonly store: Store;
  readonly loaded: FakeLoaded;
  /** Keys of two tenants with `infer` and `train`, and the administrator's. */
  readonly keys: { readonly acme: string; readonly globex: string; readonly admin: string };
  /** The server's log. */
  readonly lines: readonly string[];
  /** What was printed at the start. */
  readonly printed: readonly string[];
  /** A key of a tenant. */
  issue(tenant: string, scopes: readonly Scope[], expiresAt?: number): Promise<string>;
  ask(method: string, path: string, asked?: Asked): Promise<Response>;
}

export interface KeyedOptions {
  readonly open?: boolean;
  readonly apiKey?: string;
  readonly corsOrigins?: readonly string[];
  /** The root of a directory of adapters. */
  readonly directory?: string;
  /** Whether requests are counted, and limited; by default they are not. */
  readonly metered?: boolean;
}

export async function openKeyedApp(options: KeyedOptions = {}): Promise<KeyedApp> {
  const { open = false, apiKey, metered = false, corsOrigins = [] } = options;
  const lines: string[] = [];
  const printed: string[] = [];
  const log = createLog("debug", (line) => lines.push(line));
  const opened = await openTestStore(log);
  const { store } = opened;
  const metrics = createMetrics();
  const traffic = new Traffic();
  const plain = await fakeLoad({
    listener: joinListeners(metrics.listener, traffic.listener),
    ...(options.directory !== undefined && { directory: options.directory }),
  });
  const loaded = { ...plain, training: fakeTraining(() => plain.factors) };
  metrics.attach({ model: "tiny", stats: () => loaded.engine.stats() });
  traffic.attach(loaded.engine);
  const tuning = await startTuning(loaded, store, { trainJobs: 2, maxFile: 1 << 20 }, {
    log,
    metrics,
  });
  const batches = await openBatches(loaded, store, { log, metrics });
  const flags = { open, apiKey, host: "127.0.0.1" };
  const print = (text: string) => void printed.push(text);
  const door = await openStoreAccess({ store, flags, env: () => undefined, log, print });
  const metering = new StoreMetering(store, log, { admit: door.access.admit });
  const context = await toContext(loaded, {
    ...{ metrics, traffic, log, tuning, batches, access: door.access, admin: door.admin },
    responses: { store, sealer: door.sealer, days: 30 },
    metering: metered ? metering : undefined,
    options: { apiKey, maxBody: 1 << 20, version: "0.0.0", corsOrigins },
  });
  const app = createApp(context);
  await batches.start((line, on) => app.fetch(line, on));
  const issue = async (tenant: string, scopes: readonly Scope[], expiresAt?: number) => {
    await store.tenants.ensure(tenant);
    const order = { tenant, name: "test", scopes, expiresAt: expiresAt ?? null };
    return (await issueKey(store, door.admin.hash, order)).text;
  };
  const keys = {
    acme: await issue("acme", ["infer", "train"]),
    globex: await issue("globex", ["infer", "train"]),
    admin: await issue("default", ["admin"]),
  };
  const ask = (method: string, path: string, asked: Asked = {}) =>
    Promise.resolve(app.request(path, toInit(method, asked)));
  return {
    ...{ app, context, store, loaded, keys, lines, printed, issue, ask },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([tuning.stop(), batches.stop()]);
      await metering[Symbol.asyncDispose]();
      door[Symbol.dispose]();
      await loaded.close();
      await opened[Symbol.asyncDispose]();
    },
  };
}

function toInit(method: string, { key, json, body, headers }: Asked): RequestInit {
  return {
    method,
    headers: {
      ...(key !== undefined && { authorization: `Bearer ${key}` }),
      ...(json !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    ...(json !== undefined && { body: JSON.stringify(json) }),
    ...(body !== undefined && { body }),
  };
}

/** A core file in base64, as requests carry it. */
export function coreText({ factors }: FakeLoaded, seed: number): string {
  return writeCore(someCore(factors, seed)).toBase64();
}

/** The error of an answer, with its status. */
export async function errorOf(
  response: Response,
): Promise<{ status: number; code: unknown; message: string }> {
  const { error } = await response.json() as { error: { code: unknown; message: string } };
  return { status: response.status, code: error.code, message: error.message };
}
