/**
 * The queue on PostgreSQL, by pg-boss: many processes take from it. Who takes an item renews its
 * lease; a lease that is not renewed ends, and the item goes to another process.
 */
import { PgBoss } from "pg-boss";
import type { PostgresDatabase } from "../../adapters/store/database/postgres_database.ts";
import { Lease, type WorkItem, type WorkQueue, type WorkQueues } from "./work_queue.ts";

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

/** What lies in the database beside an item's key and group. */
type Payload = Pick<WorkItem, "job" | "createdAt">;

export class BossQueues implements WorkQueues {
  readonly #boss: PgBoss;

  private constructor(boss: PgBoss) {
    this.#boss = boss;
  }

  /** Makes pg-boss's schema where it is missing; `onError` hears what its upkeep could not do. */
  static async open(
    database: Pick<PostgresDatabase, "executeSql">,
    onError: (error: Error) => void,
  ): Promise<BossQueues> {
    const boss = new PgBoss({
      db: { executeSql: (text, values) => database.executeSql(text, values) },
      schedule: false,
      supervise: true,
      superviseIntervalSeconds: WATCH_SECONDS,
      monitorIntervalSeconds: WATCH_SECONDS,
      monitorVacuum: false,
      registerInstance: false,
      openTelemetry: { enabled: false },
    });
    boss.on("error", onError);
    // several processes may make the schema at once: all but one fail at first
    await boss.start({ attempts: ATTEMPTS });
    return new BossQueues(boss);
  }

  async queue(name: string): Promise<BossQueue> {
    await this.#boss.createQueue(name, {
      policy: "exclusive",
      heartbeatSeconds: LEASE_SECONDS,
      expireInSeconds: LONGEST_SECONDS,
      retentionSeconds: KEEP_SECONDS,
      retryLimit: RETRIES,
      retryDelay: 0,
    });
    return new BossQueue(this.#boss, name);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#boss.stop({ graceful: false, close: false });
  }
}

class BossQueue implements WorkQueue {
  readonly #boss: PgBoss;
  readonly #name: string;

  constructor(boss: PgBoss, name: string) {
    this.#boss = boss;
    this.#name = name;
  }

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

  async take(most: number): Promise<Lease | undefined> {
    const waiting = await this.#boss.findJobs(this.#name, { queued: true, limit: 1 });
    if (waiting.length === 0) return undefined;
    for (let taken = 1; taken <= most; taken++) {
      const lease = await this.#fetch({ groupConcurrency: taken });
      if (lease !== undefined) return lease;
    }
    return await this.#fetch({});
  }

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
      renewSeconds: LEASE_SECONDS / 4,
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
