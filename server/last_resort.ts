/**
 * The last resort: what nothing has caught while a server runs. A rejection that nobody handles has
 * ended its own task and no other, as one that is answered with 500 does: it is logged, and the
 * server goes on. State may be broken where an invariant is (`internal:`), or where an exception cut a
 * timer or an event handler short: then the process is to end and be started anew.
 */
import type { Log } from "./telemetry/log.ts";

export interface LastResort extends Disposable {
  /** Resolves with the first error after which state may be broken. */
  readonly broken: Promise<Error>;
}

/** Hears of whatever is not caught from now on, until disposed. */
export function watchUncaught(log: Pick<Log, "error">): LastResort {
  const { promise: broken, resolve } = Promise.withResolvers<Error>();
  const rejected = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    const error = toError(event.reason);
    if (error.message.startsWith("internal:")) return resolve(error);
    log.error(`a promise was rejected that nobody waits for: ${textOf(error)}`);
  };
  const thrown = (event: ErrorEvent) => {
    event.preventDefault();
    resolve(toError(event.error ?? event.message));
  };
  globalThis.addEventListener("unhandledrejection", rejected);
  globalThis.addEventListener("error", thrown);
  return {
    broken,
    [Symbol.dispose]: () => {
      globalThis.removeEventListener("unhandledrejection", rejected);
      globalThis.removeEventListener("error", thrown);
    },
  };
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** With the stack, which nobody else shows. */
export function textOf(error: Error): string {
  return error.stack ?? error.message;
}
