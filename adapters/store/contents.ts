/**
 * Contents in chunks: they arrive, become whole, are read and checked against their digest. No content
 * is in memory as a whole unless asked for.
 */
import { joinBytes } from "../../src/util/bytes.ts";
import { createHash } from "node:crypto";
import { type Db, LIST } from "./database/kysely.ts";
import { failureOf } from "./database/sql_error.ts";
import { DamagedError } from "./errors.ts";

export const CHUNK_BYTES = 2 ** 20;

/** Content that is written but not yet whole for others. */
export interface Arrived {
  readonly id: number;
  readonly bytes: number;
  readonly sha256: string;
}

/** Takes content in as it comes. What `source` or `onBytes` throws leaves nothing behind. */
export async function receive(
  db: Db,
  source: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void,
): Promise<Arrived> {
  const { id } = await insertContent(db, { bytes: 0, sha256: "", arrivingAt: Date.now() });
  try {
    const hash = createHash("sha256");
    let [bytes, seq] = [0, 0];
    for await (const chunk of inChunks(source)) {
      bytes += chunk.length;
      onBytes(bytes);
      hash.update(chunk);
      const row = { content: id, seq: seq++, data: chunk };
      // one transaction, which is synced once
      await db.transaction().execute(async (trx) => {
        await trx.insertInto("chunks").values(row).execute();
        await touch(trx, id);
      });
    }
    return { id, bytes, sha256: hash.digest("hex") };
  } catch (error) {
    await removeContents(db, [id]);
    throw error;
  }
}

/** Makes received content whole. @throws {Error} where it was swept away meanwhile */
export async function settle(db: Db, { id, bytes, sha256 }: Arrived): Promise<void> {
  const row = await db.updateTable("contents").set({ bytes, sha256, arrivingAt: null })
    .where("id", "=", id).returning("id").executeTakeFirst();
  if (row === undefined) throw new Error("Cannot keep the content: it took too long to arrive");
}

/** Writes whole content, in one transaction with what points to it. */
export async function writeContent(db: Db, data: Uint8Array): Promise<Arrived> {
  const sha256 = await sha256Of(data);
  const { id } = await insertContent(db, { bytes: data.length, sha256, arrivingAt: null });
  for (let seq = 0; seq * CHUNK_BYTES < data.length; seq++) {
    const chunk = data.subarray(seq * CHUNK_BYTES, (seq + 1) * CHUNK_BYTES);
    await db.insertInto("chunks").values({ content: id, seq, data: chunk }).execute();
  }
  return { id, bytes: data.length, sha256 };
}

/** The whole content. @throws {DamagedError} where it is not what was written */
export async function readContent(db: Db, id: number): Promise<Uint8Array<ArrayBuffer>> {
  const [content, chunks] = await Promise.all([
    db.selectFrom("contents").select(["bytes", "sha256"]).where("id", "=", id).executeTakeFirst(),
    db.selectFrom("chunks").select("data").where("content", "=", id).orderBy("seq").execute(),
  ]).catch(rethrowDamage);
  const data = joinBytes(chunks.map((chunk) => chunk.data));
  const sha256 = await sha256Of(data);
  if (content?.sha256 === sha256) return data;
  throw new DamagedError(
    `its content (${data.length} bytes, SHA-256 ${sha256}) is not what was written ` +
      `(${content?.bytes ?? 0} bytes, ${content?.sha256 ?? "no digest"})`,
  );
}

/** What has arrived and is not whole for others yet. @throws {DamagedError} as `readContent` */
export async function readArrived(
  db: Db,
  { id, bytes, sha256 }: Arrived,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks = await db.selectFrom("chunks").select("data").where("content", "=", id)
    .orderBy("seq").execute();
  const data = joinBytes(chunks.map((chunk) => chunk.data));
  if (await sha256Of(data) === sha256) return data;
  throw new DamagedError(`what arrived (${bytes} bytes) is not what was written`);
}

/** The content chunk by chunk; the stream fails at its end where it is not what was written. */
export async function* streamContent(db: Db, id: number): AsyncGenerator<Uint8Array> {
  const { sha256 } = await db.selectFrom("contents").select("sha256").where("id", "=", id)
    .executeTakeFirstOrThrow().catch(rethrowDamage);
  const hash = createHash("sha256");
  for (let seq = 0;; seq++) {
    const chunk = await db.selectFrom("chunks").select("data")
      .where("content", "=", id).where("seq", "=", seq).executeTakeFirst().catch(rethrowDamage);
    if (chunk === undefined) break;
    hash.update(chunk.data);
    yield chunk.data;
  }
  if (hash.digest("hex") === sha256) return;
  throw new DamagedError("its content is not what was written");
}

export async function removeContents(db: Db, ids: readonly number[]): Promise<void> {
  for (let at = 0; at < ids.length; at += LIST) {
    await db.deleteFrom("contents").where("id", "in", ids.slice(at, at + LIST)).execute();
  }
}

/** Removes what began to arrive and has not moved since (Unix milliseconds). */
export async function sweepContents(db: Db, before: number): Promise<void> {
  await db.deleteFrom("contents").where("arrivingAt", "<", before).execute();
}

function insertContent(
  db: Db,
  row: { readonly bytes: number; readonly sha256: string; readonly arrivingAt: number | null },
): Promise<{ readonly id: number }> {
  return db.insertInto("contents").values(row).returning("id").executeTakeFirstOrThrow();
}

async function touch(db: Db, id: number): Promise<void> {
  await db.updateTable("contents").set({ arrivingAt: Date.now() }).where("id", "=", id).execute();
}

/** Chunks of one size, the last one smaller; at most one of them is in memory. */
async function* inChunks(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let chunk = new Uint8Array(CHUNK_BYTES);
  let filled = 0;
  for await (const part of source) {
    for (let at = 0; at < part.length;) {
      const fits = part.subarray(at, at + CHUNK_BYTES - filled);
      chunk.set(fits, filled);
      [filled, at] = [filled + fits.length, at + fits.length];
      if (filled < CHUNK_BYTES) continue;
      yield chunk;
      [chunk, filled] = [new Uint8Array(CHUNK_BYTES), 0];
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled);
}

/** Off this thread, which decodes. */
async function sha256Of(data: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>);
  return new Uint8Array(digest).toHex();
}

/** The database itself may find its pages broken. */
function rethrowDamage(error: unknown): never {
  if (failureOf(error) !== "damaged") throw error;
  const reason = error instanceof Error ? error.message : String(error);
  throw new DamagedError(`the database cannot read it: ${reason}`, { cause: error });
}
