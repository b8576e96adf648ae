/**
 * Which job does what when: validation one after the other, training a bounded number at once, and
 * cancel, pause, resume and the server's own stop in between. Every process of a database may do
 * any job; the queue says who has what.
 */
import type { JobRecord, JobStore } from "../../adapters/store/store.ts";
import type { Dataset } from "./dataset.ts";
import { HeldJob, type Phase, PHASES } from "./held_job.ts";
import { checkInterruptible, checkPaused, isUnderWay } from "./job_status.ts";
import { tell } from "./journal.ts";
import { listenFor } from "./occasions.ts";
import { openQueues } from "./open_queues.ts";
import { type Ending, JobPhases, type PhaseOptions } from "./phases.ts";
import { waitFor } from "../../src/util/time.ts";
import type { Lease, WorkItem, WorkQueue, WorkQueues } from "./work_queue.ts";

export interface RunnerOptions extends PhaseOptions {
  /** The base model's id; jobs of another one wait for it. */
  readonly model: string;
  /** Jobs that train at once; they share micro-batches. */
  readonly maxJobs: number;
}

type JobKey = Pick<JobRecord, "id" | "tenant">;

const NEW_JOB = {
  settled: null,
  status: "validating_files",
  validated: false,
  finishedAt: null,
  error: null,
  fineTunedModel: null,
  resultFiles: [],
  trainedTokens: null,
  attempts: 0,
} as const;

/** What a job is to be created with. */
export type NewJob = Omit<JobRecord, keyof typeof NEW_JOB | "id" | "createdAt">;

/** Seconds before a job is done again whose end could not be written down. */
const AGAIN_SECONDS = 1;
/** Milliseconds before a statement that the database refused is tried again; doubled each time. */
const INSIST_MS = { first: 500, last: 30_000 } as const;

export class JobRunner {
  readonly #options: RunnerOptions;
  readonly #phases: JobPhases;
  readonly #queues: WorkQueues;
  readonly #queue: Readonly<Record<Phase, WorkQueue>>;
  readonly #held = new Map<string, HeldJob>();
  /** Examples of jobs that were validated here and may train here next. */
  readonly #ready = new Map<string, Dataset>();
  readonly #ends = new DisposableStack();
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  readonly #stopping = new AbortController();

  private constructor(
    options: RunnerOptions,
    queues: WorkQueues,
    queue: Readonly<Record<Phase, WorkQueue>>,
  ) {
    this.#options = options;
    this.#phases = new JobPhases(options);
    this.#queues = queues;
    this.#queue = queue;
  }

  /** Opens the queues on the store's database; nothing is taken before `start`. */
  static async open(options: RunnerOptions): Promise<JobRunner> {
    const { store, log, model } = options;
    const queues = await openQueues(
      store.database,
      (error) => log.warning(`the queue of jobs: ${error.message}`),
    );
    const name = model.replace(/[^\w.-]/g, "_");
    return new JobRunner(options, queues, {
      validation: await queues.queue(`validation/${name}`),
      training: await queues.queue(`training/${name}`),
    });
  }

  /** Begins to take jobs, also those that earlier processes left unfinished. */
  async start(): Promise<void> {
    await this.#sweep();
    this.#ends.use(listenFor(this.#options.store, "job", {
      hear: (id) => this.#hear(id),
      look: () => this.#look(),
      sweep: () => void this.#attempt(this.#sweep()),
    }));
    this.#look();
  }

  /** Creates a job; when this resolves it survives any crash. */
  async create(job: NewJob): Promise<JobRecord> {
    const record = await this.#jobs(job).create({ ...job, ...NEW_JOB });
    await tell(this.#jobs(job), record.id, `Created fine-tuning job: ${record.id}`);
    await this.#enqueue(record);
    return record;
  }

  /** @throws {JobStateError} where it has ended; {RangeError} where there is no such job */
  cancel(job: JobKey): Promise<JobRecord> {
    return this.#interrupt(job, "cancel");
  }

  /** @throws {JobStateError} where it is not under way; {RangeError} where there is no such job */
  pause(job: JobKey): Promise<JobRecord> {
    return this.#interrupt(job, "pause");
  }

  /** @throws {JobStateError} where it is not paused; {RangeError} where there is no such job */
  async resume(job: JobKey): Promise<JobRecord> {
    const resumed = await this.#jobs(job).change(job.id, (now) => {
      checkPaused(now);
      return { status: now.validated ? "queued" : "validating_files" };
    });
    await tell(this.#jobs(job), job.id, "The job was resumed");
    await this.#enqueue(resumed);
    return resumed;
  }

  /** Unix milliseconds at which a job that trains here should end. */
  estimatedFinish(id: string): number | undefined {
    return this.#held.get(id)?.estimatedFinish;
  }

  /**
   * Jobs train to their next step, write down where they are, and go to whoever takes them next.
   */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopping.abort();
    this.#ends.dispose();
    await this.#looking;
    for (const held of this.#held.values()) held.interrupt("stop");
    await Promise.all([...this.#held.values()].map(({ done }) => done));
    await this.#queues[Symbol.asyncDispose]();
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** Adds the jobs that should lie in a queue and do not. */
  async #sweep(): Promise<void> {
    const { store, model, log } = this.#options;
    const items: Record<Phase, WorkItem[]> = { validation: [], training: [] };
    for (const job of await store.jobs.unfinished()) {
      if (!isUnderWay(job)) continue;
      if (job.model === model) items[phaseOf(job)].push(itemOf(job));
      else log.debug(`${job.id} waits for its base model, ${job.model}`);
    }
    for (const phase of PHASES) await this.#queue[phase].add(items[phase]);
  }

  async #enqueue(job: JobRecord): Promise<void> {
    await this.#queue[phaseOf(job)].add([itemOf(job)]);
    this.#look();
  }

  /** A job has changed, here or elsewhere; with undefined, any job may have. */
  #hear(id: string | undefined): void {
    for (const held of this.#held.values()) {
      if (id === undefined || held.item.job === id) this.#attempt(this.#checkWanted(held));
    }
    this.#look();
  }

  /** A job that is cancelled or paused in another process is known by its record. */
  async #checkWanted(held: HeldJob): Promise<void> {
    const job = await this.#jobs(held.item).find(held.item.job);
    if (job !== undefined && isUnderWay(job)) return;
    held.interrupt(job?.status === "paused" ? "pause" : "cancel");
  }

  /** Takes what there is room for; looks once more where this was called meanwhile. */
  #look(): void {
    this.#lookAgain = true;
    if (this.#looking === undefined) this.#looking = this.#attempt(this.#fill());
  }

  async #fill(): Promise<void> {
    try {
      while (this.#lookAgain && !this.#stopped) {
        this.#lookAgain = false;
        for (const phase of PHASES) await this.#fillWith(phase);
      }
    } finally {
      this.#looking = undefined;
    }
  }

  async #fillWith(phase: Phase): Promise<void> {
    const { maxJobs } = this.#options;
    const room = phase === "training" ? maxJobs : 1;
    while (!this.#stopped && this.#count(phase) < room) {
      const lease = await this.#queue[phase].take(maxJobs);
      if (lease !== undefined) this.#launch(lease, phase);
      // another process took what was validated here
      else if (phase === "training") return this.#ready.clear();
      else return;
    }
  }

  #count(phase: Phase): number {
    return [...this.#held.values()].filter((one) => one.phase === phase).length;
  }

  #launch(lease: Lease, phase: Phase): void {
    const { job: id } = lease.item;
    const before = this.#held.get(id)?.done ?? Promise.resolve();
    const held = new HeldJob(lease, phase, before);
    const run = async () => {
      await before;
      const ending = await this.#work(held).catch((error) => this.#again(error));
      this.#letGo(held);
      await this.#insist(() => this.#settle(lease, ending));
    };
    held.done = this.#attempt(run()).then(() => {
      lease.abandon();
      this.#letGo(held);
      this.#look();
    });
    this.#held.set(id, held);
  }

  #letGo(held: HeldJob): void {
    const { job: id } = held.item;
    if (this.#held.get(id) === held) this.#held.delete(id);
  }

  async #work(held: HeldJob): Promise<Ending> {
    if (held.phase === "validation") return await this.#phases.validate(held);
    const { job: id } = held.item;
    const dataset = this.#ready.get(id);
    this.#ready.delete(id);
    return await this.#phases.train(held, dataset);
  }

  /** The end of work that threw because its end could not be written down. */
  #again(error: unknown): Ending {
    this.#report(error);
    return { type: "again", delaySeconds: AGAIN_SECONDS };
  }

  /**
   * On SQLite leases do not end, so an item that is not settled would stay taken for ever. While
   * the process stops it is tried once, so that other processes can take its jobs at once.
   */
  async #insist(settle: () => Promise<void>): Promise<void> {
    for (let pause: number = INSIST_MS.first;; pause *= 2) {
      try {
        return await settle();
      } catch (error) {
        this.#report(error);
      }
      if (this.#stopped) return;
      await waitFor(Math.min(pause, INSIST_MS.last), this.#stopping.signal);
    }
  }

  async #settle(lease: Lease, ending: Ending): Promise<void> {
    const { item } = lease;
    switch (ending.type) {
      case "done":
        return await lease.end();
      case "again":
        return await lease.giveBack(ending.delaySeconds);
      case "lost":
        return lease.abandon();
      case "validate":
        await this.#queue.validation.add([item]);
        return await lease.end();
      case "train":
        this.#keep(item.job, ending.dataset);
        await this.#queue.training.add([item]);
        return await lease.end();
    }
  }

  /**
   * Keeps a job's examples only where it can train at once, or a long queue would fill the memory.
   */
  #keep(job: string, dataset: Dataset | undefined): void {
    const room = this.#options.maxJobs - this.#count("training") - this.#ready.size;
    if (dataset !== undefined && room > 0) this.#ready.set(job, dataset);
  }

  /** The record is changed first, then whoever works at the job is told. */
  async #interrupt(key: JobKey, kind: "cancel" | "pause"): Promise<JobRecord> {
    const jobs = this.#jobs(key);
    await jobs.change(key.id, (job) => {
      checkInterruptible(job, kind);
      return kind === "cancel"
        ? { status: "cancelled", finishedAt: Date.now() }
        : { status: "paused" };
    });
    const held = this.#held.get(key.id);
    held?.interrupt(kind);
    await held?.done;
    for (const phase of PHASES) await this.#queue[phase].withdraw(key.id);
    await tell(jobs, key.id, `The job was ${kind === "cancel" ? "cancelled" : "paused"}`);
    if (kind === "cancel") await jobs.dropProgress(key.id);
    const job = await jobs.find(key.id);
    if (job === undefined) throw new RangeError(`Cannot find job ${key.id}: there is none`);
    return job;
  }

  #jobs({ tenant }: Pick<JobRecord, "tenant">): JobStore {
    return this.#options.store.forTenant(tenant).jobs;
  }

  /** For work that a later look, or another process, tries again where it fails. */
  #attempt(work: Promise<void>): Promise<void> {
    return work.catch((error) => this.#report(error));
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    this.#options.log.error(`the queue of jobs: ${text}`);
  }
}

function phaseOf({ validated }: JobRecord): Phase {
  return validated ? "training" : "validation";
}

function itemOf({ id, tenant, createdAt }: JobRecord): WorkItem {
  return { job: id, tenant, createdAt };
}
