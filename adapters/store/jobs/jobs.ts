/**
 * Training jobs: records and events. Progress and checkpoints are `job_contents.ts`'; which status
 * follows which is the server's.
 */
import { type RawBuilder, sql } from "kysely";
import { tell } from "../changes.ts";
import { JobContents } from "./job_contents.ts";
import type { Database } from "../database/database.ts";
import { type Db, transact, type Trx } from "../database/kysely.ts";
import { failureOf } from "../database/sql_error.ts";
import { GoneError, noTenant } from "../errors.ts";
import { newId } from "../../../src/util/ids.ts";
import {
  ENDED_JOBS,
  type JobEvent,
  type JobPatch,
  type JobRecord,
  type JobStatus,
} from "./job_records.ts";
import type { StoreLog } from "../log.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "../pages.ts";

/** Events of one statement. */
const BATCH = 500;

type JobQuery = PageQuery & { readonly metadata: JobRecord["metadata"] | undefined };

/** Of one tenant. What names a job of another one, or none, throws RangeError. */
export class JobStore extends JobContents {
  readonly #kind: Database["kind"];

  constructor({ db, kind }: Database, tenant: string, log: StoreLog) {
    super(db, tenant, log);
    this.#kind = kind;
  }

  /** @throws {RangeError} where the tenant is not there, or `job.tenant` is another one */
  async create(fields: Omit<JobRecord, "id" | "createdAt">): Promise<JobRecord> {
    this.#checkTenant(fields.tenant);
    const job: JobRecord = { id: newId("ftjob"), createdAt: Date.now(), ...fields };
    const { id, tenant, status } = job;
    try {
      await this.db.transaction().execute(async (trx) => {
        await trx.insertInto("jobs").values({ id, tenant, status, record: JSON.stringify(job) })
          .execute();
        await tell(trx, "job", { tenant, id });
      });
      return job;
    } catch (error) {
      if (failureOf(error) === "foreign key") throw noTenant(tenant);
      throw error;
    }
  }

  /**
   * Applies what `change` makes of the record as it is then: no other change, of this process or
   * another one, comes in between (a transaction that locks the row). Told as a change of kind "job".
   * @throws what `change` throws: then nothing is changed
   */
  change(
    id: string,
    change: JobPatch | ((job: JobRecord) => JobPatch),
  ): Promise<JobRecord> {
    return transact(this.db, async (trx) => {
      const row = await trx.selectFrom("jobs").select("record").where("tenant", "=", this.tenant)
        .where("id", "=", id).forUpdate().executeTakeFirst();
      if (row === undefined) throw noJob(id);
      const before = JSON.parse(row.record) as JobRecord;
      const job = { ...before, ...typeof change === "function" ? change(before) : change };
      await trx.updateTable("jobs").set({ status: job.status, record: JSON.stringify(job) })
        .where("id", "=", id).execute();
      await tell(trx, "job", { tenant: this.tenant, id });
      return job;
    });
  }

  async find(id: string): Promise<JobRecord | undefined> {
    const row = await this.#rows().where("id", "=", id).executeTakeFirst();
    return row && JSON.parse(row.record) as JobRecord;
  }

  /** Jobs whose ids end so, oldest first. */
  async endingWith(tail: string): Promise<readonly JobRecord[]> {
    const ends = sql<boolean>`substr(id, length(id) - ${sql.lit(tail.length - 1)}) = ${tail}`;
    return toJobs(await this.#rows().where(ends).orderBy("seq").execute());
  }

  /**
   * `metadata`: jobs that have all of these pairs, null = jobs without any, undefined = all jobs.
   * @throws {RangeError} where `after` names no job.
   */
  async list(query: JobQuery): Promise<Page<JobRecord>> {
    const { after, order, metadata } = query;
    let rows = this.#rows().orderBy("seq", order);
    if (metadata === null) rows = rows.where(sql<boolean>`record->>'metadata' IS NULL`);
    else if (metadata !== undefined) rows = rows.where(this.#hasMetadata(metadata));
    if (after !== undefined) {
      const from = await this.db.selectFrom("jobs").select("seq")
        .where("tenant", "=", this.tenant).where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toJob);
  }

  /** Every job, oldest first. */
  async all(): Promise<readonly JobRecord[]> {
    return toJobs(await this.#rows().orderBy("seq").execute());
  }

  /** An event of an id that is there already changes nothing. */
  async addEvents(jobId: string, events: readonly JobEvent[]): Promise<void> {
    await transact(this.db, async (trx) => {
      await checkJob(trx, this.tenant, jobId);
      for (let at = 0; at < events.length; at += BATCH) {
        await trx.insertInto("jobEvents")
          .values(
            events.slice(at, at + BATCH).map((event) => ({
              ...{ id: event.id, job: jobId, record: JSON.stringify(event) },
            })),
          )
          .onConflict((conflict) => conflict.doNothing()).execute();
      }
    });
  }

  /** @throws {RangeError} where `after` names no event. */
  async events(jobId: string, query: PageQuery): Promise<Page<JobEvent>> {
    const { after, order } = query;
    await checkJob(this.db, this.tenant, jobId);
    let rows = this.db.selectFrom("jobEvents").select("record").where("job", "=", jobId)
      .orderBy("seq", order);
    if (after !== undefined) {
      const from = await this.db.selectFrom("jobEvents").select("seq").where("job", "=", jobId)
        .where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(
      await limited(rows, query).execute(),
      query,
      ({ record }) => JSON.parse(record) as JobEvent,
    );
  }

  #rows() {
    return this.db.selectFrom("jobs").select("record").where("tenant", "=", this.tenant);
  }

  #hasMetadata(pairs: Readonly<Record<string, string>>): RawBuilder<boolean> {
    const wanted = JSON.stringify(pairs);
    return this.#kind === "postgres"
      ? sql<boolean>`record->'metadata' @> ${wanted}::jsonb`
      : sql<boolean>`NOT EXISTS (SELECT key, atom FROM json_each(${wanted})
          EXCEPT SELECT key, atom FROM json_each(record, '$.metadata'))`;
  }

  #checkTenant(tenant: string): void {
    if (tenant === this.tenant) return;
    throw new RangeError(`Cannot write a job of tenant '${tenant}' as '${this.tenant}'`);
  }
}

/** Jobs of all tenants, for the runner, for metrics and for administrators. */
export class JobDirectory {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** Jobs that have not ended (paused ones too), oldest first. */
  async unfinished(): Promise<readonly JobRecord[]> {
    const rows = this.#db.selectFrom("jobs").select("record").where("status", "not in", ENDED_JOBS);
    return toJobs(await rows.orderBy("seq").execute());
  }

  /** Every job, oldest first. */
  async all(): Promise<readonly JobRecord[]> {
    return toJobs(await this.#db.selectFrom("jobs").select("record").orderBy("seq").execute());
  }

  /** @throws {RangeError} where `after` names no job. */
  async list(query: PageQuery): Promise<Page<JobRecord>> {
    const { after, order } = query;
    let rows = this.#db.selectFrom("jobs").select("record").orderBy("seq", order);
    if (after !== undefined) {
      const from = await this.#db.selectFrom("jobs").select("seq").where("id", "=", after)
        .executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toJob);
  }

  /** How many jobs there are of each status; those without any are left out. */
  async counts(): Promise<ReadonlyMap<JobStatus, number>> {
    const rows = await this.#db.selectFrom("jobs")
      .select(({ fn }) => ["status", fn.countAll<number>().as("count")])
      .groupBy("status").execute();
    return new Map(rows.map(({ status, count }) => [status as JobStatus, Number(count)]));
  }
}

/** @throws {GoneError} where the tenant has no such job */
export async function checkJob(db: Db | Trx, tenant: string, id: string): Promise<void> {
  const row = await db.selectFrom("jobs").select("id").where("tenant", "=", tenant)
    .where("id", "=", id).executeTakeFirst();
  if (row === undefined) throw noJob(id);
}

function noJob(id: string): GoneError {
  return new GoneError(`Cannot find job ${id.slice(0, 80)}: there is none`);
}

function toJob({ record }: { readonly record: string }): JobRecord {
  return JSON.parse(record) as JobRecord;
}

function toJobs(rows: readonly { readonly record: string }[]): readonly JobRecord[] {
  return rows.map(toJob);
}
