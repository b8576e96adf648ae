/**
 * A tenant's training jobs in SQL: records and events. It owns their rows; progress and checkpoints
 * are `job_contents.ts`', and which status follows which it does not know.
 */
import { type RawBuilder, sql } from "kysely";
import type { Database } from "./database/database.ts";
import { failureOf } from "./database/sql_error.ts";
import { GoneError } from "./gone_error.ts";
import { newId } from "./ids.ts";
import { JobContents } from "./job_contents.ts";
import type {
  CheckpointRecord,
  JobDirectory,
  JobEvent,
  JobPatch,
  JobRecord,
  JobStatus,
  JobStore,
} from "./job_store.ts";
import type { StoreLog } from "./log.ts";
import type { Page, PageQuery } from "./paging.ts";
import { tell } from "./sql_changes.ts";
import {
  beyond,
  type Db,
  limited,
  noTenant,
  notListed,
  toPage,
  transact,
  type Trx,
} from "./sql_helpers.ts";

const ENDED: readonly JobStatus[] = ["succeeded", "failed", "cancelled"];
/** Events of one statement. */
const BATCH = 500;

type JobQuery = PageQuery & { readonly metadata: JobRecord["metadata"] | undefined };

export class SqlJobStore implements JobStore {
  readonly #db: Db;
  readonly #kind: Database["kind"];
  readonly #tenant: string;
  readonly #contents: JobContents;

  constructor({ db, kind }: Database, tenant: string, log: StoreLog) {
    this.#db = db;
    this.#kind = kind;
    this.#tenant = tenant;
    this.#contents = new JobContents(db, tenant, log);
  }

  async create(fields: Omit<JobRecord, "id" | "createdAt">): Promise<JobRecord> {
    this.#checkTenant(fields.tenant);
    const job: JobRecord = { id: newId("ftjob"), createdAt: Date.now(), ...fields };
    const { id, tenant, status } = job;
    try {
      await this.#db.transaction().execute(async (trx) => {
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

  change(
    id: string,
    change: JobPatch | ((job: JobRecord) => JobPatch),
  ): Promise<JobRecord> {
    return transact(this.#db, async (trx) => {
      const row = await trx.selectFrom("jobs").select("record").where("tenant", "=", this.#tenant)
        .where("id", "=", id).forUpdate().executeTakeFirst();
      if (row === undefined) throw noJob(id);
      const before = JSON.parse(row.record) as JobRecord;
      const job = { ...before, ...typeof change === "function" ? change(before) : change };
      await trx.updateTable("jobs").set({ status: job.status, record: JSON.stringify(job) })
        .where("id", "=", id).execute();
      await tell(trx, "job", { tenant: this.#tenant, id });
      return job;
    });
  }

  async find(id: string): Promise<JobRecord | undefined> {
    const row = await this.#rows().where("id", "=", id).executeTakeFirst();
    return row && JSON.parse(row.record) as JobRecord;
  }

  async endingWith(tail: string): Promise<readonly JobRecord[]> {
    const ends = sql<boolean>`substr(id, length(id) - ${sql.lit(tail.length - 1)}) = ${tail}`;
    return toJobs(await this.#rows().where(ends).orderBy("seq").execute());
  }

  async list(query: JobQuery): Promise<Page<JobRecord>> {
    const { after, order, metadata } = query;
    let rows = this.#rows().orderBy("seq", order);
    if (metadata === null) rows = rows.where(sql<boolean>`record->>'metadata' IS NULL`);
    else if (metadata !== undefined) rows = rows.where(this.#hasMetadata(metadata));
    if (after !== undefined) {
      const from = await this.#db.selectFrom("jobs").select("seq")
        .where("tenant", "=", this.#tenant).where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toJob);
  }

  async all(): Promise<readonly JobRecord[]> {
    return toJobs(await this.#rows().orderBy("seq").execute());
  }

  async addEvents(jobId: string, events: readonly JobEvent[]): Promise<void> {
    await transact(this.#db, async (trx) => {
      await checkJob(trx, this.#tenant, jobId);
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

  async events(jobId: string, query: PageQuery): Promise<Page<JobEvent>> {
    const { after, order } = query;
    await checkJob(this.#db, this.#tenant, jobId);
    let rows = this.#db.selectFrom("jobEvents").select("record").where("job", "=", jobId)
      .orderBy("seq", order);
    if (after !== undefined) {
      const from = await this.#db.selectFrom("jobEvents").select("seq").where("job", "=", jobId)
        .where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(
      await limited(rows, query).execute(),
      query,
      ({ record }) => JSON.parse(record) as JobEvent,
    );
  }

  saveProgress(jobId: string, bytes: Uint8Array): Promise<void> {
    return this.#contents.saveProgress(jobId, bytes);
  }

  progress(jobId: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#contents.progress(jobId);
  }

  dropProgress(jobId: string): Promise<void> {
    return this.#contents.dropProgress(jobId);
  }

  addCheckpoint(checkpoint: CheckpointRecord, core: Uint8Array): Promise<void> {
    return this.#contents.addCheckpoint(checkpoint, core);
  }

  checkpoints(jobId: string): Promise<readonly CheckpointRecord[]> {
    return this.#contents.checkpoints(jobId);
  }

  checkpointCore(checkpoint: CheckpointRecord): Promise<Uint8Array<ArrayBuffer>> {
    return this.#contents.checkpointCore(checkpoint);
  }

  #rows() {
    return this.#db.selectFrom("jobs").select("record").where("tenant", "=", this.#tenant);
  }

  #hasMetadata(pairs: Readonly<Record<string, string>>): RawBuilder<boolean> {
    const wanted = JSON.stringify(pairs);
    return this.#kind === "postgres"
      ? sql<boolean>`record->'metadata' @> ${wanted}::jsonb`
      : sql<boolean>`NOT EXISTS (SELECT key, atom FROM json_each(${wanted})
          EXCEPT SELECT key, atom FROM json_each(record, '$.metadata'))`;
  }

  #checkTenant(tenant: string): void {
    if (tenant === this.#tenant) return;
    throw new RangeError(`Cannot write a job of tenant '${tenant}' as '${this.#tenant}'`);
  }
}

export class SqlJobDirectory implements JobDirectory {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  async unfinished(): Promise<readonly JobRecord[]> {
    const rows = this.#db.selectFrom("jobs").select("record").where("status", "not in", ENDED);
    return toJobs(await rows.orderBy("seq").execute());
  }

  async all(): Promise<readonly JobRecord[]> {
    return toJobs(await this.#db.selectFrom("jobs").select("record").orderBy("seq").execute());
  }

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
