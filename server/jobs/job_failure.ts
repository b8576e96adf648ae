/** Why jobs fail, as their records say it: a code for machines, a sentence for people. */
import { DivergedError } from "../../src/train/job.ts";
import type { JobError, JobRecord } from "../../adapters/store/store.ts";

/** Why a job ends as failed. */
export class JobFailure extends Error {
  override readonly name: string = "JobFailure";
  readonly jobError: JobError;
  constructor(code: string, message: string, param: string | null, cause?: unknown) {
    super(message, { cause });
    this.jobError = { code, message, param };
  }
}

/** The gate's verdict; the record still tells what was trained. */
export class NotBetter extends JobFailure {
  override readonly name = "NotBetter";
  constructor(
    reason: string,
    readonly outcome: Pick<JobRecord, "trainedTokens" | "resultFiles">,
  ) {
    super("not_better_than_base", `The core was not published: ${reason}`, null);
  }
}

/** What a job's record says of a failure; what is not the user's to mend stays in the log. */
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
