/**
 * Training on a running server: the files go up, a job is made, its events are shown as if it ran
 * here, its core comes down. It owns that conversation; the server owns the training.
 */
import type { TrainEnvironment } from "./command.ts";
import type { TrainFlags, Where } from "./flags.ts";

/** Trains there; resolves with the exit code. */
export function trainOnServer(
  _flags: TrainFlags,
  { url }: Extract<Where, { readonly type: "server" }>,
  _environment: TrainEnvironment,
): Promise<number> {
  return Promise.reject(new TypeError(`Cannot train on ${url}: not yet.`));
}
