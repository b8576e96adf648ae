/**
 * Which batch is worked at when: every process of a database may take any batch of its base model;
 * the queue, that of jobs, says who has what.
 */
import {
  type BatchRecord,
  type BatchStatus,
  type BatchStore,
  isEnded,
  type Store,
} from "../../adapters/store/store.ts";
import { waitFor } from "../../src/util/time.ts";
import { listenFor, LOOK_MS } from "../jobs/occasions.ts";
import { openQueues } from "../jobs/open_queues.ts";
import type { Lease, WorkItem, WorkQueue, WorkQueues } from "../jobs/work_queue.ts";
import type { Log } from "../telemetry/log.ts";
import type { BatchMetrics } from "../telemetry/metrics.ts";
import { HeldBatch } from "./held_batch.ts";
import type { Answerer } from "./line_call.ts";
import { Slots } from "./lines_run.ts";
import { type Ending, fail, type PhaseParts, workAt } from "./phases.ts";

export interface BatchRunnerOptions {
  readonly store: Store;
  readonly log: Log;
  readonly metrics: BatchMetrics;
  /** The base model's id; batches of another one wait for it. */
  readonly base: string;
  /** Lines of all batches that run at once here: the engine's rows. */
  readonly rows: number;
}

/** What a batch is created with. */
export type NewBatch = Pick<
  BatchRecord,
  | "tenant"
  | "keyId"
  | "scopes"
  | "endpoint"
  | "inputFile"
  | "metadata"
  | "outputExpiresAfter"
>;

/** A change that a batch's status does not allow; the text says which it is. */
export class BatchStateError extends Error {
  override readonly name = "BatchStateError";
}

/** Batches that one process works at; they share its lines. */
const MOST_BATCHES = 16;
const WINDOW_MS = 24 * 3_600_000;
/** How often in a row work at a batch may fail by the server's own fault. */
const MOST_FAILURES = 5;

export class BatchRunner implements AsyncDisposable {
  readonly #options: BatchRunnerOptions;
  readonly #queues: WorkQueues;
  readonly #queue: WorkQueue;
  readonly #slots: Slots;
  readonly #held = new Map<string, HeldBatch>();
  /** Failures in a row, by batch. */
  readonly #failures = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #ends = new DisposableStack();
  #answer: Answerer | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;

  private constructor(options: BatchRunnerOptions, queues: WorkQueues, queue: WorkQueue) {
    this.#options = options;
    this.#queues = queues;
    this.#queue = queue;
    this.#slots = new Slots(options.rows);
  }

  /** Opens the queue on the store's database; nothing is taken before `start`. */
  static async open(options: BatchRunnerOptions): Promise<BatchRunner> {
    const { store, log, base, metrics } = options;
    const queues = await openQueues(
      store.database,
      (error) => log.warning(`the queue of batches: ${error.message}`),
    );
    const queue = await queues.queue(`batch/${base.replace(/[^\w.-]/g, "_")}`);
    metrics.attach(() => store.batches.counts());
    return new BatchRunner(options, queues, queue);
  }

  /** Begins to take batches, also those that earlier processes left. @param answer runs lines */
  async start(answer: Answerer): Promise<void> {
    this.#answer = answer;
    await this.#sweep();
    this.#ends.use(listenFor(this.#options.store, "batch", {
      hear: (id) => this.#hear(id),
      look: () => this.#look(),
      sweep: () => void this.#attempt(this.#sweep()),
    }));
    this.#look();
  }

  /** One tenant's. */
  of(tenant: string): BatchStore {
    return this.#options.store.forTenant(tenant).batches;
  }

  /** Creates a batch; when this resolves it survives any crash. */
  async create(batch: NewBatch): Promise<BatchRecord> {
    const createdAt = Date.now();
    const record = await this.of(batch.tenant).create({
      ...batch,
      ...{ base: this.#options.base, status: "validating", errors: [], model: null },
      ...{ total: 0, completed: 0, failed: 0, outputFile: null, errorFile: null },
      usage: { inputTokens: 0, cachedTokens: 0, outputTokens: 0 },
      ...{ createdAt, expiresAt: createdAt + WINDOW_MS },
      ...{ inProgressAt: null, finalizingAt: null, completedAt: null, failedAt: null },
      ...{ expiredAt: null, cancellingAt: null, cancelledAt: null },
    });
    await this.#queue.add([itemOf(record)]);
    this.#look();
    return record;
  }

  /**
   * Has a batch end soon, with what it has done.
   * @throws {BatchStateError} where it has ended, or is about to; {RangeError} where there is none
   */
  async cancel({ id, tenant }: Pick<BatchRecord, "id" | "tenant">): Promise<BatchRecord> {
    const batch = await this.of(tenant).change(id, ({ status }) => {
      if (status === "cancelling") return {};
      if (CANCELLABLE.has(status)) return { status: "cancelling", cancellingAt: Date.now() };
      throw new BatchStateError(`Cannot cancel a batch with status '${status}'.`);
    });
    this.#held.get(id)?.cut("cancel");
    await this.#queue.add([itemOf(batch)]);
    this.#look();
    return batch;
  }

  /** Lines that run end and are kept; the batches go to whoever takes them next. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    this.#ends.dispose();
    await this.#looking;
    await Promise.all([...this.#held.values()].map(({ done }) => done));
    await this.#queues[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Adds the batches that should lie in the queue and do not. */
  async #sweep(): Promise<void> {
    const { store, base } = this.#options;
    const batches = await store.batches.unfinished();
    await this.#queue.add(batches.filter((batch) => batch.base === base).map(itemOf));
  }

  /** A batch has changed, here or elsewhere; with undefined, any may have. */
  #hear(id: string | undefined): void {
    for (const held of this.#held.values()) {
      if (id === undefined || held.id === id) this.#attempt(this.#checkWanted(held));
    }
    this.#look();
  }

  async #checkWanted(held: HeldBatch): Promise<void> {
    const batch = await this.of(held.tenant).find(held.id);
    if (batch === undefined) held.cut("gone");
    else if (batch.status === "cancelling") held.cut("cancel");
  }

  /** Takes what there is room for; looks once more where this was called meanwhile. */
  #look(): void {
    this.#lookAgain = true;
    this.#looking ??= this.#attempt(this.#fill());
  }

  async #fill(): Promise<void> {
    try {
      while (this.#lookAgain && !this.#stopping.signal.aborted) {
        this.#lookAgain = false;
        while (this.#held.size < MOST_BATCHES && this.#answer !== undefined) {
          const lease = await this.#queue.take(MOST_BATCHES);
          if (lease === undefined) break;
          this.#launch(lease, this.#answer);
        }
      }
    } finally {
      this.#looking = undefined;
    }
  }

  #launch(lease: Lease, answer: Answerer): void {
    const held = new HeldBatch(lease);
    const { store, log, metrics } = this.#options;
    const parts: PhaseParts = {
      ...{ store, log, answer, slots: this.#slots, stop: this.#stopping.signal },
      onLine: (result) => {
        this.#failures.delete(held.id);
        metrics.line(result.failed);
      },
    };
    this.#held.set(held.id, held);
    held.done = this.#attempt(this.#work(held, parts)).then(() => {
      lease.abandon();
      this.#held.delete(held.id);
      this.#look();
    });
  }

  async #work(held: HeldBatch, parts: PhaseParts): Promise<void> {
    let [ending, delay]: [Ending, number] = ["again", 0];
    try {
      ending = await workAt(held, parts);
    } catch (error) {
      this.#report(error);
      delay = await this.#failed(held, parts);
    }
    if (ending === "lost") return;
    if (ending === "done") this.#failures.delete(held.id);
    await this.#insist(() => ending === "done" ? held.lease.end() : held.lease.giveBack(delay));
  }

  /** Seconds until it is tried again; a batch that fails too often is ended. */
  async #failed(held: HeldBatch, parts: PhaseParts): Promise<number> {
    const failures = (this.#failures.get(held.id) ?? 0) + 1;
    this.#failures.set(held.id, failures);
    if (failures < MOST_FAILURES) return 2 ** failures;
    const message = "The server failed while it ran this batch; its log has the details.";
    const error = { code: "server_error", message, param: null, line: null };
    const data = this.#options.store.forTenant(held.tenant);
    try {
      const batch = await data.batches.find(held.id);
      if (batch !== undefined && !isEnded(batch)) await fail(batch, error, data, parts);
    } catch (error) {
      this.#report(error);
    }
    return 2 ** MOST_FAILURES;
  }

  /** An item of SQLite's queue that is not settled would stay taken for ever. */
  async #insist(settle: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await settle();
      } catch (error) {
        this.#report(error);
      }
      if (this.#stopping.signal.aborted) return;
      await waitFor(LOOK_MS.sqlite, this.#stopping.signal);
    }
  }

  /** For work that a later look, or another process, tries again where it fails. */
  #attempt(work: Promise<void>): Promise<void> {
    return work.catch((error) => this.#report(error));
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    this.#options.log.error(`batches: ${text}`);
  }
}

const CANCELLABLE: ReadonlySet<BatchStatus> = new Set(["validating", "in_progress"]);

function itemOf({ id, tenant, createdAt }: BatchRecord): WorkItem {
  return { job: id, tenant, createdAt };
}
