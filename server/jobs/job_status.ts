/**
 * Which status of a job allows what, and why its work ends before its time: broken off
 * (`Interrupt`), or failed, with a code for machines and a sentence for people.
 */
import { DivergedError } from "../../src/train/job.ts";
import type { JobError, JobRecord, JobStatus } from "../../adapters/store/store.ts";

/** A change that a job's status does not allow; the text says which it is. */
export class JobStateError extends Error {
  override readonly name = "JobStateError";
}

const FINAL: ReadonlySet<JobStatus> = new Set(["succeeded", "failed", "cancelled"]);
const UNDER_WAY: ReadonlySet<JobStatus> = new Set(["validating_files", "queued", "running"]);

/** The last event of a job by its final status; a failure has its own message. */
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

/**
 * "cancel", "pause": the record says so already. "stop": this process ends. "lost": another process
 * has taken the job.
 */
export type InterruptKind = "cancel" | "pause" | "stop" | "lost";

/** Why a job's signal was aborted. */
export class Interrupt extends Error {
  override readonly name = "AbortError";
  constructor(readonly kind: InterruptKind) {
    super(`the job was interrupted: ${kind}`);
  }
}

/** Why a job ends as failed. */
export class JobFailure extends Error {
  override readonly name: string = "JobFailure";
  readonly jobError: JobError;
  constructor(code: string, message: string, param: string | null, cause?: unknown) {
    super(message, { cause });
    this.jobError = { code, message, param };
  }
}

/** The core is not better than the base; the record still tells what was trained. */
export class NotBetter extends JobFailure {
  override readonly name = "NotBetter";
  constructor(
    reason: string,
    readonly outcome: Pick<JobRecord, "trainedTokens" | "resultFiles">,
  ) {
    super("not_better_than_base", `The core was not published: ${reason}`, null);
  }
}

/** What a job's record says of a failure; the details of a server's own faults stay in its log. */
export function toJobError(error: unknown): JobError {
  if (error instanceof JobFailure) return error.jobError;
  if (error instanceof DivergedError) return failure("training_diverged", error.message);
  if (error instanceof TypeError || error instanceof RangeError) {
    return failure("training_failed", error.message);
  }
  return failure("server_error", "The server failed while training; its log has the details.");
}

function failure(code: string, message: string): JobError {
  return { code, message, param: null };
}
