/** How a failure reaches the log: under its request's id, with the stack that clients never see. */
import type { ApiError } from "../http/errors.ts";
import type { Log } from "./log.ts";

/** Logs the cause of a 5xx; other answers are the caller's affair and have their access line. */
export function logFailure(log: Log, requestId: string, failure: ApiError): void {
  const { status, cause } = failure;
  if (status < 500 || status !== 500 && cause === undefined) return;
  const detail = cause instanceof Error ? cause.stack ?? cause.message : String(cause);
  log.error(`request ${requestId} failed: ${detail}`);
}
