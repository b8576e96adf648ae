/** Factor sets by digest; a damaged one is set aside until it is added again. */
import { ConflictError } from "../../../src/util/errors.ts";
import { tell } from "../changes.ts";
import {
  type Arrived,
  readArrived,
  readContent,
  receive,
  removeContents,
  settle,
  writeContent,
} from "../contents.ts";
import { type Db, transact, type Trx } from "../database/kysely.ts";
import { DamagedError, GoneError } from "../errors.ts";
import { ENDED_JOBS, type JobRecord } from "../jobs/job_records.ts";
import type { StoreLog } from "../log.ts";

/** A factor set as lists show it. */
export interface FactorRecord {
  readonly digest: string;
  readonly bytes: number;
  readonly createdAt: number;
}

/** A factor file that has arrived and is no set yet; disposing of it takes it away again. */
export interface StagedFactors extends AsyncDisposable {
  readonly bytes: number;
  /** The whole file. */
  read(): Promise<Uint8Array<ArrayBuffer>>;
  /** Keeps it under the digest of the set in it; a set that is there already stays as it is. */
  commit(digest: string): Promise<FactorRecord>;
}

export class FactorStore {
  readonly #db: Db;
  readonly #log: StoreLog;

  constructor(db: Db, log: StoreLog) {
    this.#db = db;
    this.#log = log;
  }

  /** Keeps a factor file; the same digest again changes nothing. */
  async add(digest: string, file: Uint8Array): Promise<void> {
    await transact(this.#db, (trx) => keep(trx, digest, () => writeContent(trx, file)));
  }

  /** Takes a factor file in as it comes; what `content` throws leaves nothing behind. */
  async stage(content: AsyncIterable<Uint8Array>): Promise<StagedFactors> {
    const arrived = await receive(this.#db, content, () => {});
    let settled = false;
    return {
      bytes: arrived.bytes,
      read: () => readArrived(this.#db, arrived),
      commit: async (digest) => {
        const taken = await transact(this.#db, (trx) =>
          keep(trx, digest, async () => {
            await settle(trx, arrived);
            return arrived;
          }));
        settled = taken;
        return await this.#find(digest);
      },
      [Symbol.asyncDispose]: async () => {
        if (!settled) await removeContents(this.#db, [arrived.id]);
      },
    };
  }

  /**
   * @throws {GoneError} where there is none; {ConflictError} where cores, or jobs that have not
   *   ended, need it
   */
  async remove(digest: string): Promise<void> {
    await transact(this.#db, async (trx) => {
      const user = await userOf(trx, digest);
      if (user !== undefined) {
        throw new ConflictError(
          "digest",
          `Cannot remove factor set ${digest.slice(0, 12)}: ${user} needs it`,
        );
      }
      const row = await trx.deleteFrom("factorSets").where("digest", "=", digest)
        .returning("content").executeTakeFirst();
      if (row === undefined) throw noFactors(digest);
      await removeContents(trx, [row.content]);
      await tell(trx, "factors", { id: digest });
    });
  }

  /** Undefined where there is none, or it is damaged (then it is quarantined and logged). */
  async get(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const row = await this.#db.selectFrom("factorSets").select("content")
      .where("digest", "=", digest).where("state", "=", "stored").executeTakeFirst();
    if (row === undefined) return undefined;
    try {
      return await readContent(this.#db, row.content);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      await this.#db.updateTable("factorSets").set({ state: "quarantined" })
        .where("digest", "=", digest).execute();
      this.#log.warning(`quarantined factor set ${digest}: ${error.message}`);
      return undefined;
    }
  }

  /** Oldest first. */
  async list(): Promise<readonly FactorRecord[]> {
    return await this.#rows().orderBy("seq").execute();
  }

  async #find(digest: string): Promise<FactorRecord> {
    const row = await this.#rows().where("digest", "=", digest).executeTakeFirst();
    if (row === undefined) throw noFactors(digest);
    return row;
  }

  #rows() {
    return this.#db.selectFrom("factorSets")
      .innerJoin("contents", "contents.id", "factorSets.content")
      .select(["digest", "bytes", "createdAt"]).where("state", "=", "stored");
  }
}

/** Whether `write` was called for its content: it is not where the set is there. */
async function keep(trx: Trx, digest: string, write: () => Promise<Arrived>): Promise<boolean> {
  const row = await trx.selectFrom("factorSets").select(["state", "content"])
    .where("digest", "=", digest).executeTakeFirst();
  if (row?.state === "stored") return false;
  const { id: content } = await write();
  const values = { state: "stored", content };
  await trx.insertInto("factorSets").values({ digest, createdAt: Date.now(), ...values })
    .onConflict((conflict) => conflict.column("digest").doUpdateSet(values)).execute();
  if (row !== undefined) await removeContents(trx, [row.content]);
  await tell(trx, "factors", { id: digest });
  return true;
}

/** What needs a set, in a few words; undefined where nothing does. */
async function userOf(trx: Trx, digest: string): Promise<string | undefined> {
  const version = await trx.selectFrom("cores")
    .innerJoin("coreVersions", "coreVersions.digest", "cores.digest")
    .select(["tenant", "name", "version"]).where("factors", "=", digest).executeTakeFirst();
  if (version !== undefined) return `core ${version.tenant}/${version.name}@${version.version}`;
  const core = await trx.selectFrom("cores").select("digest").where("factors", "=", digest)
    .executeTakeFirst();
  if (core !== undefined) return `a job's checkpoint, core ${core.digest.slice(0, 12)},`;
  const jobs = await trx.selectFrom("jobs").select("record").where("status", "not in", ENDED_JOBS)
    .execute();
  const job = jobs.map(({ record }) => JSON.parse(record) as JobRecord)
    .find(({ hyperparameters }) => hyperparameters.factors === digest);
  return job && `job ${job.id} (${job.status})`;
}

function noFactors(digest: string): GoneError {
  return new GoneError(`Cannot find factor set ${digest.slice(0, 80)}: there is none`);
}
