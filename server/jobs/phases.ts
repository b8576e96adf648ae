/**
 * What is done with a job that was taken: its files are validated, or it trains. Every change of
 * status on the way is here, and what a failure makes of the job.
 */
import type {
  JobPatch,
  JobRecord,
  JobStatus,
  JobStore,
  Store,
  TenantData,
} from "../../adapters/store/store.ts";
import { type Dataset, type ExampleReader, readDataset } from "./dataset.ts";
import type { HeldJob } from "./held_job.ts";
import {
  checkUnderWay,
  ENDS,
  Interrupt,
  isUnderWay,
  JobFailure,
  JobStateError,
  NotBetter,
  toJobError,
} from "./job_status.ts";
import { Journal, tell } from "./journal.ts";
import type { WorkItem } from "./work_queue.ts";
import { tunedModelName } from "../../adapters/catalog/name.ts";
import { type TrainingPorts, trainJob } from "./train_job.ts";

export interface PhaseOptions extends TrainingPorts {
  readonly store: Store;
  readonly reader: ExampleReader;
}

/** What becomes of a job's item in the queue. */
export type Ending =
  | { readonly type: "done" }
  /** It is to train; its examples where this process has read them. */
  | { readonly type: "train"; readonly dataset: Dataset | undefined }
  | { readonly type: "validate" }
  | { readonly type: "again"; readonly delaySeconds: number }
  | { readonly type: "lost" };

/** How often in a row a job may be begun without a step being kept. */
export const MAX_ATTEMPTS = 5;
const DONE: Ending = { type: "done" };

export class JobPhases {
  readonly #options: PhaseOptions;

  constructor(options: PhaseOptions) {
    this.#options = options;
  }

  /** Reads a job's files; a broken one ends the job. */
  validate(held: HeldJob): Promise<Ending> {
    return this.#guarded(held, async (data, id) => {
      const job = await data.jobs.find(id);
      if (job?.status === "queued") return { type: "train", dataset: undefined };
      if (job?.status !== "validating_files") return DONE;
      return { type: "train", dataset: await this.#validate(job, data, held.signal) };
    });
  }

  /** Trains a job to its end; `dataset` where its files were read already. */
  train(held: HeldJob, dataset: Dataset | undefined): Promise<Ending> {
    return this.#guarded(held, async (data, id) => {
      const job = await data.jobs.find(id);
      if (job === undefined || !isUnderWay(job)) return DONE;
      if (!job.validated) return { type: "validate" };
      if (!await this.#isPublished(job, data)) await this.#train(job, data, held, dataset);
      return DONE;
    });
  }

  /** Runs a phase; what it throws becomes the job's failure, or its interruption. */
  async #guarded(
    held: HeldJob,
    phase: (data: TenantData, id: string) => Promise<Ending>,
  ): Promise<Ending> {
    const { tenant, job } = held.item;
    const data = this.#options.store.forTenant(tenant);
    try {
      held.signal.throwIfAborted();
      return await phase(data, job);
    } catch (error) {
      return await this.#broken(held, data, error);
    }
  }

  async #validate(job: JobRecord, { jobs, files }: TenantData, signal: AbortSignal) {
    const { id, trainingFile, validationFile } = job;
    const journal = await Journal.open(jobs, id);
    const and = validationFile === null ? "" : ` and validation file: ${validationFile}`;
    journal.message(`Validating training file: ${trainingFile}${and}`);
    const dataset = await readDataset(job, files, this.#options.reader, signal);
    for (const warning of dataset.warnings) journal.message(warning, "warn");
    journal.message("Files validated, moving job to queued state");
    await journal.flush();
    signal.throwIfAborted();
    await jobs.change(id, (now) => {
      checkUnderWay(now);
      return { status: "queued", validated: true };
    });
    signal.throwIfAborted();
    return dataset;
  }

  /** A process may have died after publishing the model and before writing the job's end. */
  async #isPublished(job: JobRecord, data: TenantData): Promise<boolean> {
    const published = await data.models.find(tunedModelName(job));
    if (published === undefined) return false;
    const { id, trainedTokens, resultFiles } = published;
    await this.#finish(job, data, "succeeded", { fineTunedModel: id, trainedTokens, resultFiles });
    return true;
  }

  async #train(
    before: JobRecord,
    data: TenantData,
    held: HeldJob,
    ready: Dataset | undefined,
  ): Promise<void> {
    const { files, jobs } = data;
    const dataset = ready ?? await readDataset(before, files, this.#options.reader, held.signal);
    held.signal.throwIfAborted();
    const job = await this.#begin(before, data);
    const journal = await Journal.open(jobs, job.id);
    journal.message("Fine-tuning job started");
    try {
      const patch = await trainJob({ job, held, data, dataset, journal }, this.#options);
      await journal.flush();
      await this.#finish(job, data, "succeeded", patch);
    } finally {
      await journal.flush().catch(() => {}); // a failure has been met, or will be in writing the end
    }
  }

  /** @throws {JobFailure} where it was begun too often; {JobStateError} where it was interrupted */
  async #begin(before: JobRecord, data: TenantData): Promise<JobRecord> {
    if (before.attempts >= MAX_ATTEMPTS) {
      throw new JobFailure(
        "server_error",
        `The job was begun ${before.attempts} times, and each time its server was lost before a ` +
          "step was kept.",
        null,
      );
    }
    if (before.status === "running") {
      const message = "The job's server has gone; the job goes on from its last step kept";
      await tell(data.jobs, before.id, message);
    }
    return await data.jobs.change(before.id, (job) => {
      checkUnderWay(job);
      return { status: "running", attempts: job.attempts + 1 };
    });
  }

  /** What becomes of a job whose phase has thrown. */
  async #broken(held: HeldJob, data: TenantData, error: unknown): Promise<Ending> {
    const { log } = this.#options;
    const { job: id } = held.item;
    const reason: unknown = error instanceof Interrupt ? error : held.signal.reason;
    if (reason instanceof Interrupt) return await this.#interrupted(held.item, data, reason);
    if (error instanceof JobStateError) {
      log.debug(`${id} was interrupted meanwhile: ${error.message}`);
      return DONE;
    }
    const job = await data.jobs.find(id);
    if (job === undefined) return DONE;
    const { code, message } = toJobError(error);
    const stack = code === "server_error" && error instanceof Error ? error.stack : undefined;
    log.warning(`${id} failed: ${stack ?? message}`);
    if (code === "server_error" && !(error instanceof JobFailure) && job.attempts < MAX_ATTEMPTS) {
      return await this.#tryAgain(job, data);
    }
    await this.#fail(job, data, error);
    return DONE;
  }

  async #interrupted(item: WorkItem, { jobs }: TenantData, { kind }: Interrupt): Promise<Ending> {
    const { log } = this.#options;
    const id = item.job;
    switch (kind) {
      case "cancel":
        await jobs.dropProgress(id);
        log.info(`${id} cancelled`);
        return DONE;
      case "pause":
        log.info(`${id} paused`);
        return DONE;
      case "lost":
        log.warning(`${id} is another server's now, or nobody's`);
        return { type: "lost" };
      case "stop":
        await this.#queueAgain(item, jobs);
        log.info(`${id} stopped; it goes on when the server starts again`);
        return { type: "again", delaySeconds: 0 };
    }
  }

  async #queueAgain({ job: id }: WorkItem, jobs: JobStore): Promise<void> {
    let ran = false;
    await jobs.change(id, ({ status }) => {
      ran = status === "running";
      return ran ? { status: "queued", attempts: 0 } : {};
    });
    if (!ran) return;
    await tell(jobs, id, "The job's server was stopped; the job is queued to go on");
  }

  async #tryAgain(job: JobRecord, { jobs }: TenantData): Promise<Ending> {
    const delaySeconds = 2 ** job.attempts;
    await tell(
      jobs,
      job.id,
      `The server failed, its log has the details; the job goes on in ${delaySeconds} seconds`,
      "warn",
    );
    await jobs.change(job.id, (now) => {
      checkUnderWay(now);
      // an attempt to train was counted when it began
      return now.validated ? { status: "queued" } : { attempts: now.attempts + 1 };
    });
    return { type: "again", delaySeconds };
  }

  async #fail(job: JobRecord, data: TenantData, cause: unknown): Promise<void> {
    const outcome = cause instanceof NotBetter ? cause.outcome : {};
    await this.#finish(job, data, "failed", { ...outcome, error: toJobError(cause) });
  }

  async #finish(
    job: JobRecord,
    { jobs }: TenantData,
    status: JobStatus,
    patch: JobPatch,
  ): Promise<void> {
    const { message, level } = ENDS[status] ?? {};
    const now = await jobs.find(job.id);
    if (now !== undefined) checkUnderWay(now);
    await tell(jobs, job.id, patch.error?.message ?? message ?? status, level);
    await jobs.change(job.id, (now) => {
      checkUnderWay(now);
      return { ...patch, status, finishedAt: Date.now() };
    });
    await jobs.dropProgress(job.id);
    this.#options.log.info(`${job.id} ${status}`);
  }
}
