/** Waiting and telling the time. Milliseconds, unless a name says seconds. */
import { setImmediate } from "node:timers";

/** A moment as the API has it: whole seconds since 1970. Default: now. */
export function unixSeconds(milliseconds?: number): number;
export function unixSeconds(milliseconds: number | null): number | null;
export function unixSeconds(milliseconds: number | null = Date.now()): number | null {
  return milliseconds === null ? null : Math.floor(milliseconds / 1000);
}

/** Resolves after so many milliseconds, or as soon as `signal` fires. */
export function waitFor(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** Whether a promise is fulfilled in so many milliseconds. @throws what it is rejected with by then */
export async function fulfilledWithin(
  milliseconds: number,
  promise: Promise<unknown>,
): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), milliseconds);
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Lets the event loop serve its other callers: one turn of it. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** For long work in short pieces: a turn for the event loop where it had none for so long. */
export function turnEvery(milliseconds: number): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < milliseconds) return;
    await nextTurn();
    last = performance.now();
  };
}
