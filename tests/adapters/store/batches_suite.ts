/** What holds of batches and the lines that have run, on any database. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { sweepFiles } from "../../../adapters/store/files.ts";
import {
  type BatchRecord,
  type BatchResult,
  NO_LIMITS,
  type Store,
} from "../../../adapters/store/store.ts";
import { addFile, ALL, type Cases, query, readText, textBytes } from "./cases.ts";

function newBatch(tenant: string, inputFile: string): Omit<BatchRecord, "id"> {
  const never = {
    ...{ inProgressAt: null, finalizingAt: null, completedAt: null, failedAt: null },
    ...{ expiredAt: null, cancellingAt: null, cancelledAt: null },
  };
  return {
    ...never,
    ...{ tenant, inputFile, base: "tiny", keyId: null, scopes: ["infer"], metadata: null },
    ...{ endpoint: "/v1/completions", outputExpiresAfter: null, status: "in_progress" },
    ...{ errors: [], model: null, total: 3, completed: 0, failed: 0 },
    usage: { inputTokens: 0, cachedTokens: 0, outputTokens: 0 },
    ...{ outputFile: null, errorFile: null, createdAt: Date.now(), expiresAt: Date.now() + 1e6 },
  };
}

function result(line: number, failed = false): BatchResult {
  const usage = failed ? undefined : { inputTokens: 2, cachedTokens: 1, outputTokens: 3 };
  return { line, failed, data: textBytes(`line ${line}\n`), usage };
}

const completed = () => ({ status: "completed", completedAt: 1 }) as const;

async function resultsOf({ database }: Store): Promise<number> {
  return Number((await query(database, "SELECT count(*) AS n FROM batch_results"))[0]?.n);
}

export const BATCH_CASES: Cases = {
  "lines that are kept twice count once, and become files in their order": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { batches, files } = store.forTenant(tenant);
    const input = await addFile(store, tenant, "in");
    const { id } = await batches.create(newBatch(tenant, input));
    await batches.addResults(id, [result(3), result(2, true)]);
    await batches.addResults(id, [result(1), result(3)]);
    assertEquals([...await batches.doneLines(id)].toSorted(), [1, 2, 3]);
    const kept = await batches.find(id);
    assertEquals([kept?.completed, kept?.failed], [2, 1]);
    assertEquals(kept?.usage, { inputTokens: 4, cachedTokens: 2, outputTokens: 6 });
    const ended = await batches.finish(id, { patch: completed });
    assertEquals([ended.status, ended.completedAt], ["completed", 1]);
    assertEquals(await readText(files, ended.outputFile ?? ""), "line 1\nline 3\n");
    assertEquals(await readText(files, ended.errorFile ?? ""), "line 2\n");
    assertEquals((await files.find(ended.outputFile ?? ""))?.purpose, "batch_output");
    assertEquals(await resultsOf(store), 0);
    assertEquals(await store.tenants.storedBytes(tenant), 2 + 3 * 7);
    await assertRejects(() => batches.addResults(id, [result(4)]), RangeError, "completed");
  },

  "an end that is refused, or broken off, changes nothing": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { batches, files } = store.forTenant(tenant);
    const { id } = await batches.create(newBatch(tenant, "file-x"));
    await batches.addResults(id, [result(1)]);
    const patch = () => {
      throw new TypeError("not so");
    };
    await assertRejects(() => batches.finish(id, { patch }), TypeError, "not so");
    const torn = (async function* () {
      yield await Promise.resolve(textBytes("half"));
      throw new TypeError("torn");
    })();
    await assertRejects(() => batches.finish(id, { patch: completed, more: torn }), TypeError);
    assertEquals((await files.list({ ...ALL, purpose: undefined })).items, []);
    assertEquals([...await batches.doneLines(id)], [1]);
    assertEquals(await store.tenants.storedBytes(tenant), 7);
    const { outputFile, errorFile } = await batches.finish(id, { patch: completed });
    assert(outputFile !== null && errorFile === null);
  },

  "kept lines count against the quota, their files no more": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes: 15 } });
    const { batches } = store.forTenant(tenant);
    const { id } = await batches.create(newBatch(tenant, "file-x"));
    await batches.addResults(id, [result(1), result(2)]);
    await assertRejects(() => batches.addResults(id, [result(3)]), QuotaError);
    const more = ReadableStream.from([textBytes("too much")]);
    await assertRejects(() => batches.finish(id, { patch: completed, more }), QuotaError);
    await batches.finish(id, { patch: completed });
    assertEquals(await store.tenants.storedBytes(tenant), 14);
  },

  "a batch is its tenant's, is listed by page, and goes with it": async ({ store, newTenant }) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const { batches } = store.forTenant(mine);
    const [a, b] = [
      await batches.create(newBatch(mine, "file-x")),
      await batches.create(newBatch(mine, "file-y")),
    ];
    const page = await batches.list({ ...ALL, limit: 1 });
    assertEquals([page.items.map(({ id }) => id), page.hasMore], [[b.id], true]);
    assertEquals((await batches.list({ ...ALL, after: b.id })).items, [a]);
    assertEquals((await batches.userOf("file-y"))?.id, b.id);
    const others = store.forTenant(other).batches;
    assertEquals([await others.find(a.id), await others.userOf("file-y")], [undefined, undefined]);
    await assertRejects(() => others.list({ ...ALL, after: a.id }), RangeError);
    await assertRejects(() => others.change(a.id, () => ({})), RangeError);
    await assertRejects(() => others.addResults(a.id, [result(1)]), RangeError);
    await assertRejects(() => others.finish(a.id, { patch: completed }), RangeError);
    await batches.addResults(a.id, [result(1)]);
    await store.tenants.remove(mine);
    assertEquals([await batches.find(a.id), await resultsOf(store)], [undefined, 0]);
    await assertRejects(() => batches.create(newBatch(mine, "file-x")), RangeError);
  },

  "a file that has expired stays while a batch or a job needs it": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { files, batches } = store.forTenant(tenant);
    const input = await addFile(store, tenant, "in");
    const { id } = await batches.create(newBatch(tenant, input));
    await store.database.db.updateTable("files").set({ expiresAt: 1 }).where("id", "=", input)
      .execute();
    await sweepFiles(store.database.db);
    assertEquals(await readText(files, input), "in");
    await batches.finish(id, { patch: completed });
    await sweepFiles(store.database.db);
    await assertRejects(() => readText(files, input), RangeError);
  },
};
