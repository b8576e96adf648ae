/**
 * Which job does what when: validation one after the other, training a bounded number at once, and
 * cancel, pause, resume and the server's own stop in between. It owns the queue and every change of
 * status; how a job trains is `train_job.ts`'.
 */
import type { JobRecord, JobStatus, Store } from "../store/store.ts";
import { newId } from "../store/ids.ts";
import { type Dataset, type ExampleReader, readDataset } from "./dataset.ts";
import { Journal } from "./journal.ts";
import { NotBetter, toJobError } from "./job_failure.ts";
import { checkInterruptible, checkPaused, ENDS, Interrupt } from "./interrupt.ts";
import { isFinished, JobLedger, type JobPatch } from "./ledger.ts";
import { tunedModelName } from "./names.ts";
import type { LiveProgress } from "./teller.ts";
import { type TrainingPorts, trainJob } from "./train_job.ts";

export interface RunnerOptions extends Omit<TrainingPorts, "ledger" | "store"> {
  readonly store: Store;
  readonly reader: ExampleReader;
  /** The base model's id; jobs of another one wait for it. */
  readonly model: string;
  /** Jobs that train at once; they share micro-batches. */
  readonly maxJobs: number;
}

/** What a job is to be created with. */
export type NewJob = Pick<
  JobRecord,
  | "model"
  | "tenant"
  | "suffix"
  | "seed"
  | "trainingFile"
  | "validationFile"
  | "hyperparameters"
  | "metadata"
>;

interface Active {
  readonly controller: AbortController;
  readonly live: LiveProgress;
  readonly phase: "validating" | "training";
  done: Promise<void>;
}

const NEW_JOB = {
  settled: null,
  status: "validating_files",
  validated: false,
  finishedAt: null,
  error: null,
  fineTunedModel: null,
  resultFiles: [],
  trainedTokens: null,
} as const;

export class JobRunner {
  readonly #options: RunnerOptions;
  readonly #ledger: JobLedger;
  readonly #active = new Map<string, Active>();
  #queue: readonly string[] = [];
  /** Datasets of jobs that start as soon as they are validated. */
  readonly #ready = new Map<string, Dataset>();
  #validation: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#ledger = new JobLedger(options.store.jobs);
  }

  /** Takes up what an earlier process has left unfinished. */
  async start(): Promise<void> {
    for (const job of await this.#options.store.jobs.all()) {
      if (isFinished(job) || job.status === "paused") continue;
      if (job.model !== this.#options.model) {
        this.#options.log.warning(`${job.id} waits for its base model, ${job.model}`);
        continue;
      }
      const published = await this.#options.store.models.find(tunedModelName(job));
      if (published !== undefined) {
        const { trainedTokens, resultFiles } = published;
        const patch = { fineTunedModel: published.id, trainedTokens, resultFiles };
        await this.#finish(job.id, "succeeded", patch);
        continue;
      }
      if (job.status === "running") {
        await this.#tell(job.id, "The server was started again; the job is queued to go on");
        await this.#ledger.change(job.id, { status: "queued" });
      }
      this.#enqueue(job);
    }
  }

  /** Creates a job; when this resolves it survives any crash. */
  async create(job: NewJob): Promise<JobRecord> {
    const record = await this.#options.store.jobs.create({ ...job, ...NEW_JOB });
    await this.#tell(record.id, `Created fine-tuning job: ${record.id}`);
    this.#enqueue(record);
    return record;
  }

  /** @throws {JobStateError} where it has ended; {RangeError} where there is no such job */
  cancel(id: string): Promise<JobRecord> {
    return this.#interrupt(id, "cancel");
  }

  /** @throws {JobStateError} where it is not under way; {RangeError} where there is no such job */
  pause(id: string): Promise<JobRecord> {
    return this.#interrupt(id, "pause");
  }

  /** @throws {JobStateError} where it is not paused; {RangeError} where there is no such job */
  async resume(id: string): Promise<JobRecord> {
    const job = await this.#ledger.change(id, (job) => {
      checkPaused(job);
      return { status: job.validated ? "queued" : "validating_files" };
    });
    await this.#tell(id, "The job was resumed");
    this.#enqueue(job);
    return job;
  }

  /** Unix milliseconds at which a running job should end. */
  estimatedFinish(id: string): number | undefined {
    return this.#active.get(id)?.live.estimatedFinish;
  }

  /** Jobs train to their next step, write down where they are, and stop; they go on at `start`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue = [];
    for (const { controller } of this.#active.values()) controller.abort(new Interrupt("stop"));
    await Promise.all([...this.#active.values()].map(({ done }) => done));
  }

  #enqueue(job: JobRecord): void {
    if (this.#stopped || this.#active.has(job.id)) return;
    if (!job.validated) {
      return this.#launch(job.id, "validating", (signal) => this.#validate(job.id, signal));
    }
    this.#queue = [...this.#queue, job.id];
    this.#fill();
  }

  #fill(): void {
    while (!this.#stopped && this.#training < this.#options.maxJobs) {
      const [id, ...others] = this.#queue;
      if (id === undefined) return;
      this.#queue = others;
      this.#launch(id, "training", (signal, live) => this.#train(id, signal, live));
    }
  }

  get #training(): number {
    return [...this.#active.values()].filter(({ phase }) => phase === "training").length;
  }

  /** Runs a job's next phase; what it throws ends the job, what it returns goes on to training. */
  #launch(id: string, phase: Active["phase"], work: Phase): void {
    const controller = new AbortController();
    const live: LiveProgress = { estimatedFinish: undefined };
    const run = async (): Promise<Dataset | undefined> => {
      try {
        return await work(controller.signal, live);
      } catch (error) {
        await this.#end(id, controller.signal, error);
        return undefined;
      }
    };
    const done = run()
      .catch((error) => this.#options.log.error(`${id}: its end could not be written: ${error}`))
      .then((dataset) => {
        this.#active.delete(id);
        if (dataset) this.#toTraining(id, dataset);
        this.#fill();
      });
    this.#active.set(id, { controller, live, phase, done });
  }

  /** Keeps the examples only where they are needed at once: a long queue would fill the memory. */
  #toTraining(id: string, dataset: Dataset): void {
    if (this.#stopped) return;
    if (this.#training + this.#queue.length < this.#options.maxJobs) this.#ready.set(id, dataset);
    this.#queue = [...this.#queue, id];
  }

  /** One file at a time, so that many jobs do not hold their files in memory at once. */
  #validate(id: string, signal: AbortSignal): Promise<Dataset> {
    const result = this.#validation.then(() => this.#validateNow(id, signal));
    this.#validation = result.then(() => {}, () => {});
    return result;
  }

  async #validateNow(id: string, signal: AbortSignal): Promise<Dataset> {
    signal.throwIfAborted();
    const job = await this.#find(id);
    const { trainingFile, validationFile } = job;
    const journal = await Journal.open(this.#options.store.jobs, id);
    const and = validationFile === null ? "" : ` and validation file: ${validationFile}`;
    journal.message(`Validating training file: ${trainingFile}${and}`);
    const dataset = await readDataset(job, this.#options.store.files, this.#options.reader, signal);
    for (const warning of dataset.warnings) journal.message(warning, "warn");
    journal.message("Files validated, moving job to queued state");
    await journal.flush();
    signal.throwIfAborted();
    await this.#ledger.change(id, { status: "queued", validated: true });
    signal.throwIfAborted();
    return dataset;
  }

  async #train(id: string, signal: AbortSignal, live: LiveProgress): Promise<undefined> {
    const { store, reader } = this.#options;
    const ready = this.#ready.get(id);
    this.#ready.delete(id);
    const dataset = ready ?? await readDataset(await this.#find(id), store.files, reader, signal);
    signal.throwIfAborted();
    const job = await this.#ledger.change(id, { status: "running" });
    const journal = await Journal.open(store.jobs, id);
    journal.message("Fine-tuning job started");
    try {
      const running = { job, dataset, journal, signal, live };
      const patch = await trainJob(running, { ...this.#options, ledger: this.#ledger });
      await journal.flush();
      await this.#finish(id, "succeeded", patch);
    } finally {
      await journal.flush().catch(() => {}); // a failure has been met, or will be in writing the end
    }
  }

  /** What a phase's failure makes of its job. */
  async #end(id: string, signal: AbortSignal, error: unknown): Promise<void> {
    const { reason } = signal;
    if (!(reason instanceof Interrupt)) return await this.#fail(id, error);
    switch (reason.kind) {
      case "cancel":
        return await this.#finish(id, "cancelled", {});
      case "pause":
        await this.#tell(id, "The job was paused");
        await this.#ledger.change(id, { status: "paused" });
        return this.#options.log.info(`${id} paused`);
      case "stop":
        return this.#options.log.info(`${id} stopped; it goes on when the server starts again`);
    }
  }

  async #fail(id: string, cause: unknown): Promise<void> {
    const error = toJobError(cause);
    const outcome = cause instanceof NotBetter ? cause.outcome : {};
    const stack = error.code === "server_error" && cause instanceof Error ? cause.stack : undefined;
    this.#options.log.warning(`${id} failed: ${stack ?? error.message}`);
    await this.#finish(id, "failed", { ...outcome, error });
  }

  async #finish(id: string, status: JobStatus, patch: JobPatch): Promise<void> {
    const { message, level } = ENDS[status] ?? {};
    const text = patch.error?.message ?? message ?? status;
    await this.#tell(id, text, level);
    await this.#ledger.change(id, { ...patch, status, finishedAt: Date.now() });
    await this.#options.store.jobs.dropProgress(id);
    this.#options.log.info(`${id} ${status}`);
  }

  async #interrupt(id: string, kind: "cancel" | "pause"): Promise<JobRecord> {
    const wanted = kind === "cancel" ? "cancelled" : "paused";
    let interrupted = false;
    for (let active = this.#active.get(id); active; active = this.#active.get(id)) {
      interrupted = true;
      active.controller.abort(new Interrupt(kind));
      await active.done;
    }
    this.#queue = this.#queue.filter((other) => other !== id);
    this.#ready.delete(id);
    const now = await this.#find(id);
    if (interrupted && now.status === wanted) return now;
    checkInterruptible(now, kind);
    await this.#tell(id, `The job was ${wanted}`);
    const job = await this.#ledger.change(id, (job) => {
      checkInterruptible(job, kind);
      return kind === "cancel" ? { status: wanted, finishedAt: Date.now() } : { status: wanted };
    });
    if (kind === "cancel") await this.#options.store.jobs.dropProgress(id);
    return job;
  }

  async #find(id: string): Promise<JobRecord> {
    const job = await this.#options.store.jobs.find(id);
    if (job === undefined) throw new RangeError(`Cannot find job ${id}: there is none`);
    return job;
  }

  #tell(id: string, message: string, level: "info" | "error" = "info"): Promise<void> {
    const event = { level, message, type: "message", data: null } as const;
    const { jobs } = this.#options.store;
    return jobs.addEvents(id, [{ id: newId("ftevent"), createdAt: Date.now(), ...event }]);
  }
}

type Phase = (signal: AbortSignal, live: LiveProgress) => Promise<Dataset | undefined>;
