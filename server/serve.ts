/**
 * The socket and its end: listens, answers with an application, and on a signal lets running
 * requests finish before it goes. It owns the order of shutting down; it loads no model.
 */
import type { Lifecycle } from "./lifecycle.ts";
import type { Log } from "./log.ts";

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly fetch: (request: Request) => Response | Promise<Response>;
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
 * Listens at once.
 * @throws {Deno.errors.AddrInUse} and what else `Deno.serve` throws, with a text naming the address.
 */
export function listen(options: ListenOptions, lifecycle: Lifecycle): RunningServer {
  const server = open(options);
  const { hostname, port } = server.addr;
  return {
    url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`,
    stop: async (graceSeconds, abort) => {
      const graceful = await within(graceSeconds, lifecycle.drain());
      if (!graceful) await abort();
      await within(2, server.shutdown());
      return graceful;
    },
  };
}

/**
 * Tries an address without keeping it, so that a taken port is known before a model is loaded.
 * @throws {Deno.errors.AddrInUse} and what else `Deno.listen` throws, with a text naming the address.
 */
export function checkAddress(host: string, port: number): void {
  try {
    Deno.listen({ hostname: host, port }).close();
  } catch (error) {
    throw addressError(error, host, port);
  }
}

function open({ host, port, fetch }: ListenOptions): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname: host, port, onListen: () => {} }, (request) => fetch(request));
  } catch (error) {
    throw addressError(error, host, port);
  }
}

function addressError(error: unknown, host: string, port: number): unknown {
  if (error instanceof Deno.errors.AddrInUse) {
    return new Deno.errors.AddrInUse(
      `Cannot listen on ${host}:${port}: the port is in use. Choose another one with --port.`,
    );
  }
  if (!(error instanceof Error)) return error;
  return new Error(`Cannot listen on ${host}:${port}: ${error.message}`, { cause: error });
}

/** Whether a promise settles within so many seconds. */
async function within(seconds: number, promise: Promise<unknown>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), seconds * 1000);
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
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
