/**
 * Changes of job records, one after the other for each job, so that none is lost and a status is
 * judged on what it is now. It knows which statuses are final; what a job does it does not know.
 */
import type { JobRecord, JobStatus, JobStore } from "../store/store.ts";

/** A change that a job's status does not allow; the text says which it is. */
export class JobStateError extends Error {
  override readonly name = "JobStateError";
}

const FINAL: ReadonlySet<JobStatus> = new Set(["succeeded", "failed", "cancelled"]);

/** Whether nothing will change the job any more. */
export function isFinished({ status }: Pick<JobRecord, "status">): boolean {
  return FINAL.has(status);
}

/** Fields to replace. */
export type JobPatch = Partial<Omit<JobRecord, "id" | "createdAt">>;

export class JobLedger {
  readonly #store: JobStore;
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(store: JobStore) {
    this.#store = store;
  }

  /**
   * Applies what `change` makes of the record as it is then; resolves when that is durable.
   * @throws what `change` throws; {RangeError} for an unknown id
   */
  change(id: string, change: JobPatch | ((job: JobRecord) => JobPatch)): Promise<JobRecord> {
    const before = this.#last.get(id) ?? Promise.resolve();
    const done = before.then(() => this.#apply(id, change));
    const settled = done.catch(() => {});
    this.#last.set(id, settled);
    settled.then(() => {
      if (this.#last.get(id) === settled) this.#last.delete(id);
    });
    return done;
  }

  async #apply(
    id: string,
    change: JobPatch | ((job: JobRecord) => JobPatch),
  ): Promise<JobRecord> {
    const job = await this.#store.find(id);
    if (job === undefined) throw new RangeError(`Cannot change job ${id}: there is none`);
    const next = { ...job, ...(typeof change === "function" ? change(job) : change) };
    await this.#store.update(next);
    return next;
  }
}
