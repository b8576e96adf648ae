/** What holds of files and factor sets on any database. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CHUNK_BYTES } from "../../../adapters/store/contents.ts";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { NO_LIMITS } from "../../../adapters/store/store.ts";
import { writeFactors } from "../../../adapters/lotr/format.ts";
import { smallFactors } from "../small.ts";
import { addFile, ALL, type Cases, damage, query, readFile, textBytes } from "./cases.ts";

const FILES = { ...ALL, purpose: undefined };

export const FILE_CASES: Cases = {
  "a file is found, listed, read and streamed as it came, whatever its chunks": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { files } = store.forTenant(tenant);
    const bytes = new Uint8Array(2 * CHUNK_BYTES + 17).map((_, i) => i * 31 + (i >> 8));
    const parts = [0, 3, 5000, CHUNK_BYTES + 1, bytes.length];
    const source = parts.slice(1).map((end, i) => bytes.subarray(parts[i], end));
    await using staged = await files.stage(ReadableStream.from(source));
    assertEquals(staged.bytes, bytes.length);
    assertEquals((await files.list(FILES)).items, []);
    const file = await staged.commit({ filename: "a.bin", purpose: "fine-tune-results" });
    assertEquals(await files.find(file.id), file);
    assertEquals((await files.list(FILES)).items, [file]);
    assertEquals(await readFile(files, file.id), bytes);
    // of a large file no more than this is in memory
    const pieces: number[] = [];
    for await (const piece of await files.open(file.id)) pieces.push(piece.length);
    assertEquals(pieces, [CHUNK_BYTES, CHUNK_BYTES, 17]);
  },

  "what was staged and not committed is gone": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const before = await contents(store);
    {
      await using staged = await store.forTenant(tenant).files.stage(
        ReadableStream.from([textBytes("never")]),
      );
      assertEquals(staged.bytes, 5);
    }
    const torn = ReadableStream.from((function* () {
      yield textBytes("half");
      throw new TypeError("the line broke");
    })());
    await assertRejects(() => store.forTenant(tenant).files.stage(torn), TypeError, "line broke");
    assertEquals(await contents(store), before);
    assertEquals(await store.tenants.storedBytes(tenant), 0);
  },

  "files are paged in both orders and by purpose; an unknown cursor is refused": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { files } = store.forTenant(tenant);
    const ids: string[] = [];
    for (const text of ["a", "b", "c"]) ids.push(await addFile(store, tenant, text));
    const [a, b, c] = ids;
    const page = async (after: string | undefined, order: "asc" | "desc") => {
      const { items, hasMore } = await files.list({ ...FILES, after, limit: 2, order });
      return [items.map(({ id }) => id), hasMore];
    };
    assertEquals(await page(undefined, "desc"), [[c, b], true]);
    assertEquals(await page(b, "desc"), [[a], false]);
    assertEquals(await page(undefined, "asc"), [[a, b], true]);
    assertEquals(await page(c, "asc"), [[], false]);
    const all = await files.list({ ...FILES, limit: Infinity, purpose: "fine-tune" });
    assertEquals(all.items.length, 3);
    assertEquals((await files.list({ ...FILES, purpose: "fine-tune-results" })).items, []);
    await assertRejects(() => page("file-none", "desc"), RangeError, "file-none");
  },

  "a file of another tenant is unknown": async ({ store, newTenant }) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const id = await addFile(store, mine, "secret");
    const { files } = store.forTenant(other);
    assertEquals(await files.find(id), undefined);
    await assertRejects(() => files.open(id), RangeError);
    assertEquals(await files.remove(id), false);
    await assertRejects(() => files.list({ ...FILES, after: id }), RangeError);
    assert(await store.forTenant(mine).files.remove(id));
    assertEquals(await store.forTenant(mine).files.find(id), undefined);
  },

  "writing for a tenant that is not there is refused": async ({ store }) => {
    await assertRejects(() => addFile(store, "nobody", "x"), RangeError, "nobody");
    assertEquals((await store.forTenant("nobody").files.list(FILES)).items, []);
  },

  "bytes count against the quota, and come back when files go": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes: 10 } });
    const id = await addFile(store, tenant, "1234567");
    assertEquals(await store.tenants.storedBytes(tenant), 7);
    const error = await assertRejects(() => addFile(store, tenant, "8901"), QuotaError);
    assertEquals([error.quota, error.tenant], [{ limit: 10, used: 7, asked: 4 }, tenant]);
    assertEquals(await store.tenants.storedBytes(tenant), 7);
    await addFile(store, tenant, "890");
    assertEquals(await store.tenants.storedBytes(tenant), 10);
    await store.forTenant(tenant).files.remove(id);
    assertEquals(await store.tenants.storedBytes(tenant), 3);
  },

  "of uploads at once none goes beyond the quota": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes: 10 } });
    const tries = ["aaaa", "bbbb", "cccc", "dddd"].map((text) => addFile(store, tenant, text));
    const done = await Promise.allSettled(tries);
    assertEquals(done.filter(({ status }) => status === "fulfilled").length, 2);
    for (const one of done) if (one.status === "rejected") assert(one.reason instanceof QuotaError);
    assertEquals(await store.tenants.storedBytes(tenant), 8);
  },

  "a file whose content was changed is refused, by name": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { files } = store.forTenant(tenant);
    const id = await addFile(store, tenant, "hello world");
    await damage(store, "files", `id = '${id}'`);
    const error = await assertRejects(() => readFile(files, id), TypeError);
    assertStringIncludes(error.message, id);
  },

  "a factor set is kept once, and a damaged one is quarantined until it is added again": async (
    { store, log },
  ) => {
    const factors = smallFactors({ seed: 77 });
    const { digest } = factors;
    const file = writeFactors(factors);
    assertEquals(await store.factors.get(digest), undefined);
    await store.factors.add(digest, file);
    await store.factors.add(digest, file);
    assertEquals(await store.factors.get(digest), file);
    const listed = (await store.factors.list()).filter((one) => one.digest === digest);
    assertEquals(listed.map(({ bytes }) => bytes), [file.length]);
    await damage(store, "factor_sets", `digest = '${digest}'`);
    assertEquals(await store.factors.get(digest), undefined);
    assertStringIncludes(log.warnings.at(-1) ?? "", digest);
    assert(!(await store.factors.list()).some((one) => one.digest === digest));
    await store.factors.add(digest, file);
    assertEquals(await store.factors.get(digest), file);
  },
};

async function contents(store: Parameters<Cases[string]>[0]["store"]): Promise<number> {
  const rows = await query(store.database, "SELECT count(*) AS n FROM contents");
  return rows[0].n;
}
