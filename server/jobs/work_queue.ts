/**
 * Work that waits for a process: who has which job, and who is next (within a tenant first come first
 * served, between tenants those who have least of it running). An item lies in the queue while there
 * is something to do, once for each job. A process that takes it holds a lease until it ends it, gives
 * it back, or loses it.
 */

/** A job that waits for a process. */
export interface WorkItem {
  /** The job's id. */
  readonly job: string;
  readonly tenant: string;
  /** Unix milliseconds; the earliest of a tenant is taken first, to the second. */
  readonly createdAt: number;
}

export interface LeaseOptions {
  readonly item: WorkItem;
  /** Renews the lease. Whether it was held still. */
  readonly renew: () => Promise<boolean>;
  /** Takes the item out of the queue, where the lease is held still. */
  readonly end: () => Promise<void>;
  /** Puts the item back, to be taken again after so many seconds. */
  readonly add: (delaySeconds: number) => Promise<void>;
  /** Seconds between renewals; undefined = the lease does not end by itself. */
  readonly renewSeconds: number | undefined;
}

/** The right to do a job for a while: it renews itself, and says when it was lost. */
export class Lease {
  readonly item: WorkItem;
  readonly #options: LeaseOptions;
  readonly #lost = new AbortController();
  readonly #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: LeaseOptions) {
    this.item = options.item;
    this.#options = options;
    const { renewSeconds } = options;
    if (renewSeconds === undefined) return;
    // while the database is away nobody else can take it either: the next renewal tells
    this.#timer = setInterval(() => this.isHeld().catch(() => {}), renewSeconds * 1000);
  }

  /** Aborted when the lease is seen to be lost. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Renews it. False where it was lost: what the holder knows of the job is old then. */
  async isHeld(): Promise<boolean> {
    if (this.#lost.signal.aborted) return false;
    const held = await this.#options.renew();
    if (!held) this.#lose();
    return held;
  }

  /** The item is done with. Nothing happens where the lease was lost. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#options.end();
  }

  /** Somebody is to take the item again, at its old place; the earliest in `delaySeconds`. */
  async giveBack(delaySeconds = 0): Promise<void> {
    clearInterval(this.#timer);
    await this.#options.end();
    await this.#options.add(delaySeconds);
  }

  /** Ends renewing and leaves the item as it is: the lease ends by itself. */
  abandon(): void {
    clearInterval(this.#timer);
  }

  #lose(): void {
    clearInterval(this.#timer);
    this.#lost.abort();
  }
}

/** The queues of one process. */
export interface WorkQueues extends AsyncDisposable {
  /** The queue of a name, made where it is missing. */
  queue(name: string): Promise<WorkQueue>;
}

export interface WorkQueue {
  /** Adds items; one that is there already, waiting or taken, stays as it is. */
  add(items: readonly WorkItem[], delaySeconds?: number): Promise<void>;
  /**
   * Takes the next item: of the tenants that wait, of one with the fewest taken by all processes,
   * its earliest. Counts above `most` are the same. Undefined where nothing waits.
   */
  take(most: number): Promise<Lease | undefined>;
  /** Takes an item out, whoever has it: its lease is lost. */
  withdraw(job: string): Promise<void>;
}
