/**
 * The queue on SQLite, a table. One process has it, so leases do not end by themselves: whoever had
 * an item when a queue is opened is dead, and the queue is emptied, to be filled from the jobs again.
 */
import { sql } from "kysely";
import type { SqliteDatabase } from "../../adapters/store/database/sqlite_database.ts";
import { Lease, type WorkItem, type WorkQueue, type WorkQueues } from "./work_queue.ts";

type Db = SqliteDatabase["db"];

export class TableQueues implements WorkQueues {
  readonly #db: Db;

  constructor({ db }: Pick<SqliteDatabase, "db">) {
    this.#db = db;
  }

  async queue(name: string): Promise<TableQueue> {
    await this.#db.deleteFrom("queue").where("queue", "=", name).execute();
    return new TableQueue(this.#db, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class TableQueue implements WorkQueue {
  readonly #db: Db;
  readonly #name: string;

  constructor(db: Db, name: string) {
    this.#db = db;
    this.#name = name;
  }

  async add(items: readonly WorkItem[], delaySeconds = 0): Promise<void> {
    const startAt = Date.now() + 1000 * delaySeconds;
    await this.#db.transaction().execute(async (trx) => {
      for (const { job, tenant, createdAt } of items) {
        const item = { queue: this.#name, job, tenant, createdAt, startAt, claim: null };
        await trx.insertInto("queue").values(item)
          .onConflict((conflict) => conflict.doNothing()).execute();
      }
    });
  }

  async take(most: number): Promise<Lease | undefined> {
    const claim = crypto.randomUUID();
    const item = await this.#db.updateTable("queue").set({ claim })
      .where("seq", "=", this.#next(most)).returning(["job", "tenant", "createdAt"])
      .executeTakeFirst();
    return item && new Lease({
      item,
      renewSeconds: undefined,
      renew: async () => await this.#claimed(claim).executeTakeFirst() !== undefined,
      end: async () => void await this.#db.deleteFrom("queue").where("claim", "=", claim).execute(),
      add: (delaySeconds) => this.add([item], delaySeconds),
    });
  }

  async withdraw(job: string): Promise<void> {
    await this.#db.deleteFrom("queue").where("queue", "=", this.#name).where("job", "=", job)
      .execute();
  }

  #next(most: number) {
    const taken = sql<number>`min(${most}, (SELECT count(*) FROM queue AS t
      WHERE t.queue = queue.queue AND t.tenant = queue.tenant AND t.claim IS NOT NULL))`;
    return this.#db.selectFrom("queue").select("seq")
      .where("queue", "=", this.#name).where("claim", "is", null).where("startAt", "<=", Date.now())
      .orderBy(taken).orderBy("createdAt").orderBy("seq").limit(1);
  }

  #claimed(claim: string) {
    return this.#db.selectFrom("queue").select("seq").where("claim", "=", claim);
  }
}
