/**
 * What a tenant's jobs write while they train: the progress that they go on from, and checkpoints,
 * which count for the tenant's quota.
 */
import { readCore } from "../../lotr/format.ts";
import { readContent, removeContents, writeContent } from "../contents.ts";
import { collectCores, keepCore, readCoreFile } from "../cores/core_rows.ts";
import { type Db, transact, type Trx } from "../database/kysely.ts";
import { DamagedError } from "../errors.ts";
import type { CheckpointRecord } from "./job_records.ts";
import type { StoreLog } from "../log.ts";
import { charge } from "../tenants.ts";

/** Checkpoints that a job keeps; OpenAI keeps three. */
const MAX_CHECKPOINTS = 8;

export class JobContents {
  protected readonly db: Db;
  protected readonly tenant: string;
  readonly #log: StoreLog;

  constructor(db: Db, tenant: string, log: StoreLog) {
    this.db = db;
    this.tenant = tenant;
    this.#log = log;
  }

  /** Replaces the state that the job goes on from. */
  saveProgress(jobId: string, bytes: Uint8Array): Promise<void> {
    return transact(this.db, async (trx) => {
      await this.#lock(trx, jobId);
      const before = await takeProgress(trx, jobId);
      const { id } = await writeContent(trx, bytes);
      await trx.insertInto("jobProgress").values({ job: jobId, content: id }).execute();
      await removeContents(trx, before);
    });
  }

  /** Undefined where there is none, or it is damaged. */
  async progress(jobId: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const row = await this.db.selectFrom("jobProgress")
      .innerJoin("jobs", "jobs.id", "jobProgress.job").select("content")
      .where("tenant", "=", this.tenant).where("job", "=", jobId).executeTakeFirst();
    if (row === undefined) return undefined;
    try {
      return await readContent(this.db, row.content);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      this.#log.warning(`dropped the progress of ${jobId}: ${error.message}`);
      await this.dropProgress(jobId);
      return undefined;
    }
  }

  dropProgress(jobId: string): Promise<void> {
    return transact(this.db, async (trx) => {
      await this.#lock(trx, jobId);
      await removeContents(trx, await takeProgress(trx, jobId));
    });
  }

  /** Adds a checkpoint, replacing one of the same step; the oldest beyond a bound are dropped. */
  addCheckpoint(checkpoint: CheckpointRecord, file: Uint8Array): Promise<void> {
    const { jobId: job, step } = checkpoint;
    const core = readCore(file);
    if (core.digest !== checkpoint.core) {
      return Promise.reject(
        new TypeError(`Cannot keep checkpoint ${step} of ${job}: its core is ${core.digest}`),
      );
    }
    return transact(this.db, async (trx) => {
      await charge(trx, this.tenant, 0);
      await this.#lock(trx, job);
      await keepCore(trx, core, file);
      const values = { record: JSON.stringify(checkpoint), core: core.digest, bytes: file.length };
      const old = await trx.deleteFrom("checkpoints").where("job", "=", job)
        .where("step", "=", step).returning(["core", "bytes"]).execute();
      await trx.insertInto("checkpoints").values({ job, step, ...values }).execute();
      const gone = [...old, ...await dropOldest(trx, job)];
      const freed = gone.reduce((sum, { bytes }) => sum + bytes, 0);
      await charge(trx, this.tenant, file.length - freed);
      await collectCores(trx, gone.map((one) => one.core));
    });
  }

  /** Newest first. */
  async checkpoints(jobId: string): Promise<readonly CheckpointRecord[]> {
    const rows = await this.db.selectFrom("checkpoints")
      .innerJoin("jobs", "jobs.id", "checkpoints.job").select("checkpoints.record")
      .where("tenant", "=", this.tenant).where("job", "=", jobId).orderBy("step", "desc")
      .execute();
    return rows.map(({ record }) => JSON.parse(record) as CheckpointRecord);
  }

  /** The core file; its digest is checked. @throws {RangeError | TypeError} gone, or damaged */
  async checkpointCore({ jobId, step }: CheckpointRecord): Promise<Uint8Array<ArrayBuffer>> {
    const row = await this.db.selectFrom("checkpoints")
      .innerJoin("jobs", "jobs.id", "checkpoints.job").select("core")
      .where("tenant", "=", this.tenant).where("job", "=", jobId).where("step", "=", step)
      .executeTakeFirst();
    if (row !== undefined) return await readCoreFile(this.db, row.core, this.#log);
    throw new RangeError(`Cannot read checkpoint ${step} of ${jobId}: it was dropped`);
  }

  /** Writers of one job come one after the other. @throws {RangeError} where there is no such job */
  async #lock(trx: Trx, jobId: string): Promise<void> {
    const row = await trx.selectFrom("jobs").select("id").where("tenant", "=", this.tenant)
      .where("id", "=", jobId).forUpdate().executeTakeFirst();
    if (row === undefined) throw new RangeError(`Cannot find job ${jobId}: there is none`);
  }
}

async function takeProgress(trx: Trx, jobId: string): Promise<number[]> {
  const rows = await trx.deleteFrom("jobProgress").where("job", "=", jobId).returning("content")
    .execute();
  return rows.map(({ content }) => content);
}

async function dropOldest(
  trx: Trx,
  job: string,
): Promise<readonly { readonly core: string; readonly bytes: number }[]> {
  const steps = await trx.selectFrom("checkpoints").select("step").where("job", "=", job)
    .orderBy("step", "desc").execute();
  const gone = steps.slice(MAX_CHECKPOINTS).map(({ step }) => step);
  if (gone.length === 0) return [];
  return await trx.deleteFrom("checkpoints").where("job", "=", job).where("step", "in", gone)
    .returning(["core", "bytes"]).execute();
}
