/**
 * What happens to an error that nothing caught while the server runs. An unhandled rejection ended
 * only its own task: it is logged, and the server goes on. After a broken invariant (`internal:`),
 * or an exception that cut a timer or an event handler short, state may be broken: the process
 * ends, to be started again.
 */
import type { Log } from "./telemetry/log.ts";

export interface LastResort extends Disposable {
  /** Resolves with the first error after which state may be broken. */
  readonly broken: Promise<Error>;
}

/** Handles uncaught errors from now on, until disposed. */
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

/** The error with its stack. */
export function textOf(error: Error): string {
  return error.stack ?? error.message;
}
