/**
 * The socket and its end: listens, answers with an application, counts what is under way, and on a
 * signal lets running requests finish before it goes.
 */
import { getRequestListener, RequestError } from "@hono/node-server";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import { fulfilledWithin } from "../src/util/time.ts";
import { ApiError } from "./errors.ts";
import type { Log } from "./telemetry/log.ts";

/** Milliseconds that the last bytes of answers get to reach their clients. */
const LAST_BYTES_MS = 2000;

/** Milliseconds that a refused client has to stop sending. */
const LINGER_MS = 5000;

export type FetchHandler = (request: Request) => Response | Promise<Response>;

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly fetch: FetchHandler;
}

export interface RunningServer {
  /** `http://127.0.0.1:8000` */
  readonly url: string;
  /**
   * Refuses new generations, waits up to `graceSeconds` for the running ones, then has `abort` cancel
   * what is left, and closes the socket. Resolves with whether all had ended by themselves.
   */
  stop(graceSeconds: number, abort: () => Promise<void>): Promise<boolean>;
}

/**
 * Listens.
 * @throws {Error} naming the address, where that cannot be.
 */
export async function listen(
  { host, port, fetch }: ListenOptions,
  lifecycle: Lifecycle,
): Promise<RunningServer> {
  const server = createFetchServer(fetch);
  await opened(server, host, port);
  const address = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`,
    stop: async (graceSeconds, abort) => {
      const graceful = await fulfilledWithin(graceSeconds * 1000, lifecycle.drain());
      if (!graceful) await abort();
      await closed(server);
      return graceful;
    },
  };
}

/**
 * A `fetch` handler behind `node:http`, not listening yet. Requests are aborted as soon as their client
 * is gone, also while the handler still thinks; `Deno.serve` (2.9) notices some only after the answer
 * has begun.
 */
export function createFetchServer(fetch: FetchHandler): Server {
  const answer = (request: Request, { incoming }: { readonly incoming: Readable }) => {
    const response = fetch(request);
    return response instanceof Promise
      ? response.then((response) => readable(response, incoming))
      : readable(response, incoming);
  };
  return createServer(getRequestListener(answer, { overrideGlobalObjects: false, errorHandler }));
}

/**
 * A refusal that ends its connection ends only when the client has stopped sending, or after some
 * seconds: a client that still sends has not read the answer, and would lose it.
 */
function readable(response: Response, incoming: Readable): Response | Promise<Response> {
  const ends = response.headers.get("connection") === "close";
  return ends && !incoming.readableEnded ? lingering(response, incoming) : response;
}

async function lingering(response: Response, incoming: Readable): Promise<Response> {
  const bytes = await response.bytes();
  const headers = new Headers(response.headers);
  headers.set("content-length", String(bytes.length));
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(bytes);
      await linger(incoming);
      controller.close();
    },
  });
  return new Response(body, { status: response.status, headers });
}

/** Reads what is still sent, for a while, and keeps none of it. */
async function linger(incoming: Readable): Promise<void> {
  if (incoming.readableEnded || incoming.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  incoming.once("end", resolve).once("close", resolve).once("error", () => resolve());
  incoming.on("data", () => {}).resume();
  await fulfilledWithin(LINGER_MS, promise);
}

/**
 * Answers a request that is malformed, `Host: a b` for example. An error of the handler's cuts
 * the connection.
 */
function errorHandler(error: unknown): Response {
  if (!(error instanceof RequestError)) throw error;
  const code = "invalid_request";
  return new ApiError(400, `Cannot read the request: ${error.message}.`, { code }).response();
}

/**
 * Tries an address without keeping it, so that a taken port is known before a model is loaded.
 * @throws {Error} naming the address.
 */
export async function checkAddress(host: string, port: number): Promise<void> {
  const server = createFetchServer(() => new Response());
  await opened(server, host, port);
  await closed(server);
}

function opened(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(addressError(error, host, port)));
    server.listen(port, host, () => resolve());
  });
}

/** Closes idle connections at once, the others when their answers are written. */
async function closed(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeIdleConnections();
  await fulfilledWithin(LAST_BYTES_MS, promise);
  server.closeAllConnections();
}

function addressError(error: Error, host: string, port: number): Error {
  const taken = "code" in error && error.code === "EADDRINUSE";
  const reason = taken
    ? "the port is in use. Choose another one with --port."
    : `${error.message}. Choose another address with --host.`;
  return new Error(`Cannot listen on ${host}:${port}: ${reason}`, { cause: error });
}

/**
 * Resolves at the first SIGINT or SIGTERM; a second one ends the process at once.
 */
export function awaitSignal(log: Log): Promise<Deno.Signal> {
  return new Promise((resolve) => {
    let seen = false;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => {
        if (seen) {
          log.warning(`${signal} again: exiting at once`);
          Deno.exit(signal === "SIGINT" ? 130 : 143);
        }
        seen = true;
        resolve(signal);
      });
    }
  });
}

export class Lifecycle {
  #draining = false;
  #active = 0;
  #waiters: (() => void)[] = [];

  /** Whether new generations are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Requests whose answers have not ended. */
  get active(): number {
    return this.#active;
  }

  /** Counts a request as begun; the returned function counts it as ended, once. */
  begin(): () => void {
    this.#active++;
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#active--;
      if (this.#active === 0) this.#release();
    };
  }

  /** Refuses new generations from now on; resolves when no request is left. */
  drain(): Promise<void> {
    this.#draining = true;
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #release(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
