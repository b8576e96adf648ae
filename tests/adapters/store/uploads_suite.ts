/** What holds of uploads in parts, and of files that expire, on any database. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { CHUNK_BYTES } from "../../../adapters/store/contents.ts";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { sweepFiles } from "../../../adapters/store/files.ts";
import { NO_LIMITS, type Store, type UploadStore } from "../../../adapters/store/store.ts";
import { sweepUploads } from "../../../adapters/store/uploads.ts";
import { FieldError } from "../../../src/util/errors.ts";
import { addFile, ALL, type Cases, query, readFile, readText, textBytes } from "./cases.ts";

const MOST = 8 * CHUNK_BYTES;
const NEW = {
  filename: "rows.jsonl",
  purpose: "batch",
  mimeType: "application/jsonl",
  expiresAfter: null,
} as const;

async function addPart(
  uploads: UploadStore,
  id: string,
  content: string | Uint8Array,
): Promise<string> {
  const bytes = typeof content === "string" ? textBytes(content) : content;
  await using staged = await uploads.stagePart(id, ReadableStream.from([bytes]), MOST);
  return (await staged.commit()).id;
}

async function countOf({ database }: Store, table: string): Promise<number> {
  return Number((await query(database, `SELECT count(*) AS n FROM ${table}`))[0]?.n);
}

/** Ends an upload's hour, or a file's life. */
async function age(store: Store, table: string, id: string): Promise<void> {
  const { db, kind } = store.database;
  await db.updateTable(table as "files").set({ expiresAt: Date.now() - 1 }).where("id", "=", id)
    .execute();
  if (table !== "uploads") return;
  const set = kind === "postgres"
    ? `record = jsonb_set(record, '{expiresAt}', '1')`
    : `record = json_set(record, '$.expiresAt', 1)`;
  await query(store.database, `UPDATE uploads SET ${set} WHERE id = '${id}'`);
}

export const UPLOAD_CASES: Cases = {
  "parts become one file in the order that is asked for, however they came": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { uploads, files } = store.forTenant(tenant);
    const first = new Uint8Array(CHUNK_BYTES + 7).map((_, i) => i * 17);
    const whole = new Uint8Array([...first, ...textBytes("tail")]);
    const { id } = await uploads.create({ ...NEW, bytes: whole.length });
    const [tail, unused, head] = [
      await addPart(uploads, id, "tail"),
      await addPart(uploads, id, "unused"),
      await addPart(uploads, id, first),
    ];
    assert(unused !== tail);
    assertEquals(await store.tenants.storedBytes(tenant), whole.length + 6);
    const md5 = createHash("md5").update(whole).digest("hex");
    const { upload, file } = await uploads.complete(id, { partIds: [head, tail], md5 });
    assertEquals([upload.status, (await uploads.find(id))?.status], ["completed", "completed"]);
    assertEquals([file.bytes, file.filename, file.purpose], [whole.length, "rows.jsonl", "batch"]);
    assertEquals(await files.find(file.id), file);
    assertEquals(await readFile(files, file.id), whole);
    assertEquals(await store.tenants.storedBytes(tenant), whole.length);
    await assertRejects(() => addPart(uploads, id, "late"), FieldError, "completed");
    await assertRejects(() => uploads.cancel(id), FieldError, "completed");
  },

  "what does not fit is refused by name, and leaves the upload as it was": async (
    { store, newTenant },
  ) => {
    const { uploads } = store.forTenant(await newTenant());
    const { id } = await uploads.create({ ...NEW, bytes: 4 });
    const part = await addPart(uploads, id, "text");
    const contents = await countOf(store, "contents");
    const refused = async (partIds: string[], md5: string | undefined, field: string) => {
      const error = await assertRejects(() => uploads.complete(id, { partIds, md5 }), FieldError);
      assertEquals(error.field, field);
    };
    await refused([part, "part_x"], undefined, "part_ids[1]");
    await refused([part, part], undefined, "part_ids[1]");
    await refused([part], "0".repeat(32), "md5");
    const short = await addPart(uploads, id, "more");
    await refused([part, short], undefined, "part_ids");
    assertEquals(await countOf(store, "contents"), contents + 1);
    assertEquals((await uploads.complete(id, { partIds: [part], md5: undefined })).file.bytes, 4);
  },

  "a cancelled upload, and one whose hour is over, give their bytes back": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { uploads } = store.forTenant(tenant);
    const contents = await countOf(store, "contents");
    for (const end of ["cancelled", "expired"] as const) {
      const { id } = await uploads.create({ ...NEW, bytes: 4 });
      const part = await addPart(uploads, id, "text");
      assertEquals(await store.tenants.storedBytes(tenant), 4);
      if (end === "cancelled") await uploads.cancel(id);
      else await age(store, "uploads", id);
      assertEquals((await uploads.find(id))?.status, end);
      const partIds = [part];
      await assertRejects(() => uploads.complete(id, { partIds, md5: undefined }), FieldError, end);
      await sweepUploads(store.database.db);
      assertEquals(await store.tenants.storedBytes(tenant), 0);
    }
    assertEquals(await countOf(store, "contents"), contents);
  },

  "parts count against the quota, and have a bound together": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes: 10 } });
    const { uploads } = store.forTenant(tenant);
    const { id } = await uploads.create({ ...NEW, bytes: 10 });
    const part = await addPart(uploads, id, "1234567890");
    await assertRejects(() => addPart(uploads, id, "x"), QuotaError);
    // the copy that a file is made of counts once
    const { file } = await uploads.complete(id, { partIds: [part], md5: undefined });
    assertEquals(await store.tenants.storedBytes(tenant), 10);
    await store.forTenant(tenant).files.remove(file.id);
    const { id: next } = await uploads.create({ ...NEW, bytes: 10 });
    const much = () => uploads.stagePart(next, ReadableStream.from([textBytes("1234")]), 3);
    assertStringIncludes((await assertRejects(much, FieldError)).message, "more than 3 bytes");
  },

  "an upload of another tenant is unknown, and goes with its own": async ({ store, newTenant }) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const contents = await countOf(store, "contents");
    const { uploads } = store.forTenant(mine);
    const { id } = await uploads.create({ ...NEW, bytes: 4 });
    const part = await addPart(uploads, id, "text");
    const others = store.forTenant(other).uploads;
    assertEquals(await others.find(id), undefined);
    await assertRejects(() => addPart(others, id, "text"), RangeError);
    await assertRejects(() => others.complete(id, { partIds: [part], md5: undefined }), RangeError);
    await assertRejects(() => others.cancel(id), RangeError);
    const own = await others.create({ ...NEW, bytes: 4 });
    const stolen = () => others.complete(own.id, { partIds: [part], md5: undefined });
    await assertRejects(stolen, FieldError, "has no part");
    await store.tenants.remove(mine);
    assertEquals(await countOf(store, "contents"), contents);
    await assertRejects(() => store.forTenant("nobody").uploads.create({ ...NEW, bytes: 1 }));
  },

  "a file that has expired is gone, and the sweep gives its bytes back": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { files } = store.forTenant(tenant);
    await using staged = await files.stage(ReadableStream.from([textBytes("old")]));
    const as = { filename: "old.jsonl", purpose: "batch", expiresAfter: 3600 } as const;
    const file = await staged.commit(as);
    assertEquals(file.expiresAt, file.createdAt + 3_600_000);
    assertEquals((await files.find(file.id))?.expiresAt, file.expiresAt);
    const kept = await addFile(store, tenant, "kept");
    await age(store, "files", file.id);
    assertEquals(await files.find(file.id), undefined);
    const { items } = await files.list({ ...ALL, purpose: undefined });
    assertEquals(items.map(({ id }) => id), [kept]);
    await sweepFiles(store.database.db);
    assertEquals(await store.tenants.storedBytes(tenant), 4);
    assertEquals(await readText(files, kept), "kept");
  },
};
