/**
 * Which status allows what: cancelling, pausing, resuming and ending, and how a job's end is told. It
 * owns the rules; who follows them is the runner.
 */
import type { JobRecord, JobStatus } from "../../adapters/store/store.ts";

/** A change that a job's status does not allow; the text says which it is. */
export class JobStateError extends Error {
  override readonly name = "JobStateError";
}

const FINAL: ReadonlySet<JobStatus> = new Set(["succeeded", "failed", "cancelled"]);
const UNDER_WAY: ReadonlySet<JobStatus> = new Set(["validating_files", "queued", "running"]);

/** The last event of a job that ends so; a failure brings its own words. */
export const ENDS: Readonly<
  Partial<Record<JobStatus, { readonly message?: string; readonly level: "info" | "error" }>>
> = {
  succeeded: { message: "The job has successfully completed", level: "info" },
  failed: { level: "error" },
};

/** Whether nothing will change the job any more. */
export function isFinished({ status }: Pick<JobRecord, "status">): boolean {
  return FINAL.has(status);
}

/** Whether some process is to validate or train it. */
export function isUnderWay({ status }: Pick<JobRecord, "status">): boolean {
  return UNDER_WAY.has(status);
}

/** @throws {JobStateError} where the job's status does not allow it */
export function checkInterruptible(job: JobRecord, kind: "cancel" | "pause"): void {
  const allowed = kind === "cancel" ? !isFinished(job) : isUnderWay(job);
  if (!allowed) throw wrongState(job, kind, "only a job that is under way");
}

/** @throws {JobStateError} where the job is not paused */
export function checkPaused(job: JobRecord): void {
  if (job.status !== "paused") throw wrongState(job, "resume", "only a paused job");
}

/** @throws {JobStateError} where it was cancelled or paused meanwhile */
export function checkUnderWay(job: JobRecord): void {
  if (!isUnderWay(job)) throw wrongState(job, "go on with", "only a job that is under way");
}

function wrongState(job: JobRecord, verb: string, right: string): JobStateError {
  return new JobStateError(
    `Cannot ${verb} ${job.id}: its status is '${job.status}', and ${right} can be.`,
  );
}
