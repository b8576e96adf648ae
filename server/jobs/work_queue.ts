/**
 * Work that any process may take, by pg-boss on the store's database: who has which job, until when,
 * and who is next. It owns leases and the order (within a tenant first come first served, between
 * tenants those who have least of it running); what a job is, and what it does, it does not know.
 *
 * An item lies in the queue while there is something to do, once for each job. A process that takes
 * it holds a lease and renews it; a lease that is not renewed ends, and the item goes to another.
 */
import { PgBoss } from "pg-boss";
import type { Database } from "../../adapters/store/database/database.ts";
import { Lease, type WorkItem } from "./lease.ts";

/** Seconds after which a lease that was not renewed ends: pg-boss's least. */
export const LEASE_SECONDS = 10;
/** Seconds between looks for leases that have ended. */
const WATCH_SECONDS = 2;
/** pg-boss's most, in seconds: a job that runs for a day is taken up anew from its last step. */
const LONGEST_SECONDS = 24 * 3600 - 1;
/** How often a job may be begun is its record's affair. */
const RETRIES = 1_000_000;
/** Seconds that an item may wait: 68 years, what a column holds. */
const KEEP_SECONDS = 2 ** 31 - 1;
/** Places in line are counted from here, so that they fit 32 bits. */
const EPOCH = Date.UTC(2026);

const ATTEMPTS = 4;

type Port = Pick<Database, "kind" | "executeSql">;

/** What lies in the database beside an item's key and group. */
type Payload = Pick<WorkItem, "job" | "createdAt">;

/** The queues of one process. */
export class WorkQueues implements AsyncDisposable {
  readonly #boss: PgBoss;
  readonly #shared: boolean;

  private constructor(boss: PgBoss, shared: boolean) {
    this.#boss = boss;
    this.#shared = shared;
  }

  /** Makes pg-boss's schema where it is missing; `onError` hears what its upkeep could not do. */
  static async open(database: Port, onError: (error: Error) => void): Promise<WorkQueues> {
    const shared = database.kind === "postgres";
    const boss = new PgBoss({
      db: { executeSql: (text, values) => database.executeSql(text, values) },
      backend: database.kind,
      schedule: false,
      supervise: shared,
      superviseIntervalSeconds: WATCH_SECONDS,
      monitorIntervalSeconds: WATCH_SECONDS,
      monitorVacuum: false,
      registerInstance: false,
      openTelemetry: { enabled: false },
    });
    boss.on("error", onError);
    // several processes may make the schema at once: all but one fail at first
    await boss.start({ attempts: ATTEMPTS });
    return new WorkQueues(boss, shared);
  }

  /**
   * The queue of a name, made where it is missing. In a database of this process alone nobody else
   * holds a lease, so an earlier process's are ended: the queue is emptied, to be filled again.
   */
  async queue(name: string): Promise<WorkQueue> {
    await this.#boss.createQueue(name, {
      policy: "exclusive",
      heartbeatSeconds: LEASE_SECONDS,
      expireInSeconds: LONGEST_SECONDS,
      retentionSeconds: KEEP_SECONDS,
      retryLimit: RETRIES,
      retryDelay: 0,
    });
    if (!this.#shared) await this.#boss.deleteAllJobs(name);
    return new WorkQueue(this.#boss, name, this.#shared ? LEASE_SECONDS / 4 : undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#boss.stop({ graceful: false, close: false });
  }
}

export class WorkQueue {
  readonly #boss: PgBoss;
  readonly #name: string;
  readonly #renewSeconds: number | undefined;

  /** `renewSeconds`: undefined where leases do not end by themselves. */
  constructor(boss: PgBoss, name: string, renewSeconds: number | undefined) {
    this.#boss = boss;
    this.#name = name;
    this.#renewSeconds = renewSeconds;
  }

  /** Adds items; one that is there already, waiting or taken, stays as it is. */
  async add(items: readonly WorkItem[], delaySeconds = 0): Promise<void> {
    if (items.length === 0) return;
    await this.#boss.insert(
      this.#name,
      items.map(({ job, tenant, createdAt }) => ({
        data: { job, createdAt },
        singletonKey: job,
        group: { id: tenant },
        // the earliest first, also of those that come back
        priority: -Math.floor((createdAt - EPOCH) / 1000),
        startAfter: delaySeconds,
      })),
    );
  }

  /**
   * Takes the next item: of the tenants that wait, of one with the fewest taken by all processes,
   * its earliest. Counts above `most` are the same. Undefined where nothing waits.
   */
  async take(most: number): Promise<Lease | undefined> {
    const waiting = await this.#boss.findJobs(this.#name, { queued: true, limit: 1 });
    if (waiting.length === 0) return undefined;
    for (let taken = 1; taken <= most; taken++) {
      const lease = await this.#fetch({ groupConcurrency: taken });
      if (lease !== undefined) return lease;
    }
    return await this.#fetch({});
  }

  /** Takes an item out, whoever has it: its lease is lost. */
  async withdraw(job: string): Promise<void> {
    for (const { id } of await this.#boss.findJobs(this.#name, { key: job })) {
      await this.#boss.deleteJob(this.#name, id);
    }
  }

  async #fetch(limit: { readonly groupConcurrency?: number }): Promise<Lease | undefined> {
    const [claimed] = await this.#boss.fetch<Payload>(this.#name, { ...limit, batchSize: 1 });
    if (claimed === undefined) return undefined;
    const { id, retryCount, groupId, data: { job, createdAt } } = claimed;
    // pg-boss tells this claim from a later one of the same item by its count
    const claim = { id, retryCount };
    const item = { job, tenant: groupId ?? "", createdAt };
    return new Lease({
      item,
      renewSeconds: this.#renewSeconds,
      renew: async () => hasAffected(await this.#boss.touch(this.#name, claim)),
      end: async () => void await this.#boss.deleteJob(this.#name, claim),
      add: (delaySeconds) => this.add([item], delaySeconds),
    });
  }
}

/** Whether a command met its job; pg-boss's types leave its answer's fields out. */
function hasAffected(answer: object): boolean {
  return "affected" in answer && answer.affected !== 0;
}
