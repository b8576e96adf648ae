/**
 * Which status allows what: cancelling, pausing and resuming, and how a job's end is told. It owns
 * the rules; who follows them is the runner.
 */
import type { JobRecord, JobStatus } from "../store/store.ts";
import { isFinished, JobStateError } from "./ledger.ts";

export type InterruptKind = "cancel" | "pause" | "stop";

/** Why a job's signal was aborted. */
export class Interrupt extends Error {
  override readonly name = "AbortError";
  constructor(readonly kind: InterruptKind) {
    super(`the job was interrupted: ${kind}`);
  }
}

const UNDER_WAY: ReadonlySet<JobStatus> = new Set(["validating_files", "queued", "running"]);

/** The last event of a job that ends so; a failure brings its own words. */
export const ENDS: Readonly<
  Partial<Record<JobStatus, { readonly message?: string; readonly level: "info" | "error" }>>
> = {
  succeeded: { message: "The job has successfully completed", level: "info" },
  cancelled: { message: "The job was cancelled", level: "info" },
  failed: { level: "error" },
};

/** @throws {JobStateError} where the job's status does not allow it */
export function checkInterruptible(job: JobRecord, kind: "cancel" | "pause"): void {
  const allowed = kind === "cancel" ? !isFinished(job) : UNDER_WAY.has(job.status);
  if (!allowed) throw wrongState(job, kind, "only a job that is under way");
}

/** @throws {JobStateError} where the job is not paused */
export function checkPaused(job: JobRecord): void {
  if (job.status !== "paused") throw wrongState(job, "resume", "only a paused job");
}

function wrongState(job: JobRecord, verb: string, right: string): JobStateError {
  return new JobStateError(
    `Cannot ${verb} ${job.id}: its status is '${job.status}', and ${right} can be.`,
  );
}
