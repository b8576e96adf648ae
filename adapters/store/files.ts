/** A tenant's files, uploaded and made: their rows and quota. Their chunks are `contents.ts`'. */
import { type Arrived, receive, removeContents, settle, streamContent } from "./contents.ts";
import { sql } from "kysely";
import { ENDED_BATCHES } from "./batches/batch_records.ts";
import { type Db, transact, type Trx } from "./database/kysely.ts";
import { DamagedError, GoneError, noTenant } from "./errors.ts";
import { ENDED_JOBS } from "./jobs/job_records.ts";
import { newId } from "../../src/util/ids.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "./pages.ts";
import { charge, checkQuota } from "./tenants.ts";

/** OpenAI's; nothing here reads files of the last four. */
export const UPLOAD_PURPOSES = [
  "fine-tune",
  "batch",
  "assistants",
  "vision",
  "user_data",
  "evals",
] as const;
export const FILE_PURPOSES = [
  ...UPLOAD_PURPOSES,
  "fine-tune-results",
  "batch_output",
] as const;
export type FilePurpose = typeof FILE_PURPOSES[number];

export interface FileRecord {
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  readonly bytes: number;
  /** Unix milliseconds; rising from record to record. */
  readonly createdAt: number;
  /** Unix milliseconds; null = it stays until it is deleted. */
  readonly expiresAt: number | null;
  /** Of the content, hex. */
  readonly sha256: string;
}

/** What content becomes a file as. */
export interface NewFile extends Pick<FileRecord, "filename" | "purpose"> {
  /** Seconds after which it is gone; null or undefined = never. */
  readonly expiresAfter?: number | null;
}

/** Content that has arrived but is no file yet; disposing of it takes it away again. */
export interface StagedFile extends AsyncDisposable {
  readonly bytes: number;
  commit(as: NewFile): Promise<FileRecord>;
}

interface FileRow {
  readonly id: string;
  readonly filename: string;
  readonly purpose: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly bytes: number;
  readonly sha256: string;
}

/** Of one tenant. */
export class FileStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /**
   * Takes content in as it comes; what `content` throws leaves nothing behind.
   * @throws {RangeError} where the tenant is not there; {QuotaError} where it may store no more
   */
  async stage(content: AsyncIterable<Uint8Array>): Promise<StagedFile> {
    const tenant = this.#tenant;
    const row = await this.#db.selectFrom("tenants").select(["storedBytes", "limits"])
      .where("id", "=", tenant).executeTakeFirst();
    if (row === undefined) throw noTenant(tenant);
    const { limits, storedBytes } = row;
    // what is far too much is refused while it comes; commit counts again
    const check = (bytes: number) =>
      checkQuota(tenant, { limits, storedBytes: storedBytes + bytes }, bytes);
    const arrived = await receive(this.#db, content, check);
    let committed = false;
    return {
      bytes: arrived.bytes,
      commit: async (as) => {
        const record = await this.#commit(arrived, as);
        committed = true;
        return record;
      },
      [Symbol.asyncDispose]: async () => {
        if (!committed) await removeContents(this.#db, [arrived.id]);
      },
    };
  }

  #commit(arrived: Arrived, as: NewFile): Promise<FileRecord> {
    return transact(this.#db, async (trx) => {
      await charge(trx, this.#tenant, arrived.bytes);
      return await insertFile(trx, this.#tenant, arrived, as);
    });
  }

  async find(id: string): Promise<FileRecord | undefined> {
    const row = await this.#rows().where("files.id", "=", id).executeTakeFirst();
    return row && toRecord(row);
  }

  /**
   * @param query `purpose`: undefined = those of every purpose
   * @throws {RangeError} where `after` names no file of the list.
   */
  async list(
    query: PageQuery & { readonly purpose: string | readonly string[] | undefined },
  ): Promise<Page<FileRecord>> {
    const { after, order } = query;
    const purposes = typeof query.purpose === "string" ? [query.purpose] : query.purpose;
    let rows = this.#rows().orderBy("seq", order);
    if (purposes !== undefined) rows = rows.where("purpose", "in", purposes);
    if (after !== undefined) {
      let cursor = this.#db.selectFrom("files").select("seq")
        .where("tenant", "=", this.#tenant).where("id", "=", after);
      if (purposes !== undefined) cursor = cursor.where("purpose", "in", purposes);
      const from = await cursor.executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toRecord);
  }

  /**
   * The content as it is read, in pieces of a megabyte: no file is in memory whole. Where it is not
   * what was written, its end is a TypeError.
   * @throws {RangeError} for an unknown id.
   */
  async open(id: string): Promise<ReadableStream<Uint8Array>> {
    const content = await this.#contentOf(id);
    return ReadableStream.from(this.#chunks(id, content));
  }

  async *#chunks(id: string, content: number): AsyncGenerator<Uint8Array> {
    try {
      yield* streamContent(this.#db, content);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      throw new DamagedError(`Cannot read ${id}: ${error.message}`, { cause: error });
    }
  }

  /** Whether there was such a file. */
  remove(id: string): Promise<boolean> {
    return removeFile(this.#db, this.#tenant, id);
  }

  /** Those that have not expired. */
  #rows() {
    return this.#db.selectFrom("files").innerJoin("contents", "contents.id", "files.content")
      .select(["files.id", "filename", "purpose", "createdAt", "expiresAt", "bytes", "sha256"])
      .where("tenant", "=", this.#tenant)
      .where((e) => e.or([e("expiresAt", "is", null), e("expiresAt", ">", Date.now())]));
  }

  async #contentOf(id: string): Promise<number> {
    const row = await this.#db.selectFrom("files").select("content")
      .where("tenant", "=", this.#tenant).where("id", "=", id).executeTakeFirst();
    if (row !== undefined) return row.content;
    throw new GoneError(`Cannot read ${id.slice(0, 80)}: there is no such file`);
  }
}

/** Makes content that has arrived a file; charging for it is the caller's. */
export async function insertFile(
  trx: Trx,
  tenant: string,
  arrived: Arrived,
  { filename, purpose, expiresAfter }: NewFile,
): Promise<FileRecord> {
  const [id, createdAt] = [newId("file"), Date.now()];
  const { bytes, sha256 } = arrived;
  const expiresAt = typeof expiresAfter === "number" ? createdAt + 1000 * expiresAfter : null;
  await settle(trx, arrived);
  await trx.insertInto("files")
    .values({ id, tenant, filename, purpose, createdAt, content: arrived.id, expiresAt })
    .execute();
  return { id, filename, purpose, bytes, createdAt, expiresAt, sha256 };
}

function removeFile(db: Db, tenant: string, id: string): Promise<boolean> {
  return transact(db, async (trx) => {
    const row = await trx.deleteFrom("files").where("tenant", "=", tenant)
      .where("id", "=", id).returning("content").executeTakeFirst();
    if (row === undefined) return false;
    const { bytes } = await trx.selectFrom("contents").select("bytes")
      .where("id", "=", row.content).executeTakeFirstOrThrow();
    await charge(trx, tenant, -bytes);
    await removeContents(trx, [row.content]);
    return true;
  });
}

/** Removes files that have expired, of all tenants, but for those that work under way needs. */
export async function sweepFiles(db: Db): Promise<void> {
  const job = sql<boolean>`EXISTS (SELECT 1 FROM jobs WHERE jobs.tenant = files.tenant
    AND jobs.status NOT IN (${sql.join(ENDED_JOBS)})
    AND files.id IN (record->>'trainingFile', record->>'validationFile'))`;
  const batch = sql<boolean>`EXISTS (SELECT 1 FROM batches
    WHERE batches.input_file = files.id AND batches.status NOT IN (${sql.join(ENDED_BATCHES)}))`;
  const rows = await db.selectFrom("files").select(["tenant", "id"])
    .where("expiresAt", "<=", Date.now()).where(({ not }) => not(job)).where(({ not }) =>
      not(batch)
    ).execute();
  for (const { tenant, id } of rows) await removeFile(db, tenant, id);
}

function toRecord(row: FileRow): FileRecord {
  return { ...row, purpose: row.purpose as FilePurpose };
}
