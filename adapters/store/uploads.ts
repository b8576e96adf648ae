/**
 * A tenant's uploads in parts. A part is a content of its own, kept and counted as soon as it is
 * acknowledged; completing copies the parts, chunk by chunk, into one content that becomes a file.
 */
import { createHash } from "node:crypto";
import { FieldError } from "../../src/util/errors.ts";
import { newId } from "../../src/util/ids.ts";
import { type Arrived, receive, removeContents, settle, streamContent } from "./contents.ts";
import { type Db, transact, type Trx } from "./database/kysely.ts";
import { failureOf } from "./database/sql_error.ts";
import { GoneError, noTenant } from "./errors.ts";
import { type FilePurpose, type FileRecord, insertFile } from "./files.ts";
import { charge, checkQuota } from "./tenants.ts";

/** What is kept of an upload; one that is pending and too old is expired. */
export type UploadStatus = "pending" | "completed" | "cancelled" | "expired";

export interface UploadRecord {
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  /** Of all parts together, as it was announced. */
  readonly bytes: number;
  readonly mimeType: string;
  /** Seconds after which the file is gone; null = never. */
  readonly expiresAfter: number | null;
  /** Unix milliseconds. */
  readonly createdAt: number;
  /** When it is given up, if it is not completed. */
  readonly expiresAt: number;
  readonly status: UploadStatus;
}

export type NewUpload = Omit<UploadRecord, "id" | "createdAt" | "expiresAt" | "status">;

export interface PartRecord {
  readonly id: string;
  readonly createdAt: number;
}

/** A part that has arrived; disposing of it takes it away again, unless it was committed. */
export interface StagedPart extends AsyncDisposable {
  readonly bytes: number;
  /** When this resolves, the part is on disk. @throws as `stagePart` does */
  commit(): Promise<PartRecord>;
}

/** How an upload is to be made a file. */
export interface Completion {
  /** The parts, in their order; others are dropped. */
  readonly partIds: readonly string[];
  /** Of the whole, hex; undefined = it is not checked. */
  readonly md5: string | undefined;
}

interface Part {
  readonly content: number;
  readonly bytes: number;
}

const LIFETIME_MS = 3_600_000;
/** What an upload was is known for so long after its hour. */
const KEPT_MS = 24 * 3_600_000;

/** Of one tenant. What names an upload of another one, or none, throws GoneError. */
export class UploadStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /** @throws {GoneError} where the tenant is not there */
  async create(fields: NewUpload): Promise<UploadRecord> {
    const createdAt = Date.now();
    const upload: UploadRecord = {
      ...{ id: newId("upload", "_"), ...fields, status: "pending" },
      ...{ createdAt, expiresAt: createdAt + LIFETIME_MS },
    };
    const { id, status, expiresAt } = upload;
    try {
      await this.#db.insertInto("uploads")
        .values({ id, tenant: this.#tenant, status, expiresAt, record: JSON.stringify(upload) })
        .execute();
    } catch (error) {
      throw failureOf(error) === "foreign key" ? noTenant(this.#tenant) : error;
    }
    return upload;
  }

  async find(id: string): Promise<UploadRecord | undefined> {
    const row = await this.#db.selectFrom("uploads").select(["record", "status"])
      .where("tenant", "=", this.#tenant).where("id", "=", id).executeTakeFirst();
    return row && toRecord(row);
  }

  /**
   * Takes a part in as it comes; what `content` throws leaves nothing behind.
   * @param most bytes that the parts of an upload may have together
   * @throws {FieldError} where the upload takes no more; {QuotaError} where the tenant may store no
   *   more
   */
  async stagePart(
    id: string,
    content: AsyncIterable<Uint8Array>,
    most: number,
  ): Promise<StagedPart> {
    const row = await this.#db.selectFrom("tenants").select(["storedBytes", "limits"])
      .where("id", "=", this.#tenant).executeTakeFirst();
    if (row === undefined) throw noTenant(this.#tenant);
    const { limits, storedBytes } = row;
    const before = await this.#sum(this.#db, id);
    // what is far too much is refused while it comes; commit counts again
    const arrived = await receive(this.#db, content, (bytes) => {
      checkRoom(id, before + bytes, most);
      checkQuota(this.#tenant, { limits, storedBytes: storedBytes + bytes }, bytes);
    });
    let committed = false;
    return {
      bytes: arrived.bytes,
      commit: async () => {
        const part = await this.#addPart(id, arrived, most);
        committed = true;
        return part;
      },
      [Symbol.asyncDispose]: async () => {
        if (!committed) await removeContents(this.#db, [arrived.id]);
      },
    };
  }

  #addPart(upload: string, arrived: Arrived, most: number): Promise<PartRecord> {
    const part = { id: newId("part", "_"), createdAt: Date.now() };
    return transact(this.#db, async (trx) => {
      await charge(trx, this.#tenant, arrived.bytes);
      await this.#pending(trx, upload, "add a part to");
      checkRoom(upload, await this.#sum(trx, upload) + arrived.bytes, most);
      await settle(trx, arrived);
      await trx.insertInto("uploadParts").values({ id: part.id, upload, content: arrived.id })
        .execute();
      return part;
    });
  }

  /**
   * Makes the parts one file.
   * @throws {FieldError} naming what does not fit: parts, their bytes, the digest, or the upload
   */
  async complete(
    id: string,
    { partIds, md5 }: Completion,
  ): Promise<{ readonly upload: UploadRecord; readonly file: FileRecord }> {
    const asked = await this.#db.transaction().execute((trx) => this.#pending(trx, id, "complete"));
    const parts = await this.#parts(id, partIds);
    checkBytes(parts, asked.bytes);
    const hash = createHash("md5");
    const arrived = await receive(this.#db, hashed(this.#db, parts, hash), () => {});
    try {
      checkDigest(hash.digest("hex"), md5);
      return await transact(this.#db, async (trx) => {
        await charge(trx, this.#tenant, 0);
        const upload = await this.#pending(trx, id, "complete");
        await charge(trx, this.#tenant, arrived.bytes - await dropParts(trx, id));
        const file = await insertFile(trx, this.#tenant, arrived, upload);
        return { upload: await setStatus(trx, upload, "completed"), file };
      });
    } catch (error) {
      await removeContents(this.#db, [arrived.id]);
      throw error;
    }
  }

  /** Drops it with its parts. @throws {FieldError} where it is not pending */
  cancel(id: string): Promise<UploadRecord> {
    return transact(this.#db, async (trx) => {
      await charge(trx, this.#tenant, 0);
      const upload = await this.#pending(trx, id, "cancel");
      await charge(trx, this.#tenant, -await dropParts(trx, id));
      return await setStatus(trx, upload, "cancelled");
    });
  }

  /** The upload, with nobody else changing it until the transaction ends. */
  async #pending(trx: Trx, id: string, verb: string): Promise<UploadRecord> {
    const row = await trx.selectFrom("uploads").select(["record", "status"])
      .where("tenant", "=", this.#tenant).where("id", "=", id).forUpdate().executeTakeFirst();
    if (row === undefined) throw noUpload(id);
    const upload = toRecord(row);
    if (upload.status === "pending") return upload;
    throw new FieldError(
      "upload_id",
      `Cannot ${verb} ${id}: its status is '${upload.status}', and only a pending upload can be.`,
    );
  }

  async #parts(id: string, partIds: readonly string[]): Promise<readonly Part[]> {
    const rows = await this.#db.selectFrom("uploadParts")
      .innerJoin("contents", "contents.id", "uploadParts.content")
      .select(["uploadParts.id", "content", "bytes"]).where("upload", "=", id).execute();
    const left = new Map(rows.map((row) => [row.id, row]));
    return partIds.map((partId, i) => {
      const part = left.get(partId);
      left.delete(partId);
      if (part !== undefined) return part;
      const field = `part_ids[${i}]`;
      throw new FieldError(
        field,
        partIds.indexOf(partId) < i
          ? `Invalid '${field}': part '${partId.slice(0, 80)}' is named twice.`
          : `Invalid '${field}': ${id} has no part '${partId.slice(0, 80)}'.`,
      );
    });
  }

  async #sum(db: Db, id: string): Promise<number> {
    const rows = await db.selectFrom("uploadParts")
      .innerJoin("contents", "contents.id", "uploadParts.content").select("bytes")
      .where("upload", "=", id).execute();
    return rows.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}

/** Gives up the uploads whose hour is over, of all tenants, and forgets those of yesterday. */
export async function sweepUploads(db: Db): Promise<void> {
  const now = Date.now();
  const old = await db.selectFrom("uploads").select(["id", "tenant"])
    .where("status", "=", "pending").where("expiresAt", "<=", now).execute();
  for (const { id, tenant } of old) {
    await transact(db, async (trx) => {
      const owner = await trx.selectFrom("tenants").select("id").where("id", "=", tenant)
        .forUpdate().executeTakeFirst();
      const row = await trx.selectFrom("uploads").select("status").where("id", "=", id)
        .forUpdate().executeTakeFirst();
      if (owner === undefined || row?.status !== "pending") return;
      await charge(trx, tenant, -await dropParts(trx, id));
      await trx.updateTable("uploads").set({ status: "expired" }).where("id", "=", id).execute();
    });
  }
  await db.deleteFrom("uploads").where("status", "!=", "pending")
    .where("expiresAt", "<=", now - KEPT_MS).execute();
}

/** Bytes of the parts that were dropped. */
async function dropParts(trx: Trx, upload: string): Promise<number> {
  const rows = await trx.deleteFrom("uploadParts").where("upload", "=", upload)
    .returning("content").execute();
  if (rows.length === 0) return 0;
  const contents = rows.map(({ content }) => content);
  const sizes = await trx.selectFrom("contents").select("bytes").where("id", "in", contents)
    .execute();
  await removeContents(trx, contents);
  return sizes.reduce((sum, { bytes }) => sum + bytes, 0);
}

async function setStatus(
  trx: Trx,
  upload: UploadRecord,
  status: UploadStatus,
): Promise<UploadRecord> {
  await trx.updateTable("uploads").set({ status }).where("id", "=", upload.id).execute();
  return { ...upload, status };
}

async function* hashed(
  db: Db,
  parts: readonly Part[],
  hash: { update(bytes: Uint8Array): unknown },
): AsyncGenerator<Uint8Array> {
  for (const { content } of parts) {
    for await (const chunk of streamContent(db, content)) {
      hash.update(chunk);
      yield chunk;
    }
  }
}

function checkRoom(id: string, bytes: number, most: number): void {
  if (bytes <= most) return;
  throw new FieldError(
    "data",
    `Invalid 'data': the parts of ${id} together have more than ${most} bytes, the most of a file.`,
  );
}

function checkBytes(parts: readonly Part[], announced: number): void {
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  if (bytes === announced) return;
  throw new FieldError(
    "part_ids",
    `Invalid 'part_ids': these parts have ${bytes} bytes, the upload was created with ${announced}.`,
  );
}

function checkDigest(found: string, wanted: string | undefined): void {
  if (wanted === undefined || wanted.toLowerCase() === found) return;
  throw new FieldError("md5", `Invalid 'md5': that of these parts is ${found}, not ${wanted}.`);
}

function noUpload(id: string): GoneError {
  return new GoneError(`No such Upload object: ${id.slice(0, 80)}`);
}

function toRecord({ record, status }: { readonly record: string; readonly status: string }) {
  const upload = JSON.parse(record) as UploadRecord;
  const over = status === "pending" && upload.expiresAt <= Date.now();
  return { ...upload, status: over ? "expired" : status as UploadStatus };
}
