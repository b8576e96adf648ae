/** What holds of cores, their versions and published models on any database. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NO_LIMITS, QuotaError, type Store } from "../../../adapters/store/store.ts";
import {
  ALL,
  type Cases,
  type CoreFile,
  coreFile,
  damage,
  FACTORS,
  loraFile,
  query,
} from "./cases.ts";

const LATEST = { type: "latest" } as const;
const at = (number: number) => ({ type: "number", number }) as const;

function put(
  store: Store,
  tenant: string,
  { bytes }: CoreFile,
  { name = "bot", publish = "now" }: { name?: string; publish?: "now" | "later" } = {},
) {
  return store.cores.put(tenant, name, bytes, { source: "test", publish });
}

async function current(store: Store, tenant: string): Promise<number | undefined> {
  return (await store.cores.resolve(tenant, "bot", LATEST))?.version;
}

export const CORE_CASES: Cases = {
  "a core is the next version of its name, and read as it came": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const [one, two] = [coreFile(1), coreFile(2)];
    const first = await put(store, tenant, one);
    const { createdAt: _, ...rest } = first;
    assertEquals(rest, {
      ...{ tenant, name: "bot", version: 1, digest: one.digest, base: FACTORS.base },
      ...{ factors: FACTORS.digest, rank: 4, ranks: undefined },
      ...{ bytes: one.bytes.length, source: "test" },
      ...{ state: "stored", current: true },
    });
    const second = await put(store, tenant, two, { publish: "later" });
    assertEquals([second.version, second.current], [2, false]);
    assertEquals(await current(store, tenant), 1);
    assertEquals((await store.cores.resolve(tenant, "bot", at(2)))?.digest, two.digest);
    const prefix = { type: "digest", prefix: two.digest.slice(0, 8) } as const;
    assertEquals((await store.cores.resolve(tenant, "bot", prefix))?.version, 2);
    assertEquals(await store.cores.bytes(two.digest), two.bytes);
    const versions = await store.cores.versions(tenant, "bot");
    assertEquals(versions.map(({ version }) => version), [2, 1]);
  },

  "a LoRA is a version like a core, of its own kind, under the same name": async (
    { store, newTenant, log },
  ) => {
    const tenant = await newTenant();
    const [core, lora] = [coreFile(1), loraFile(1)];
    await put(store, tenant, core);
    const { createdAt: _, ...rest } = await put(store, tenant, lora);
    assertEquals(rest, {
      ...{ tenant, name: "bot", version: 2, digest: lora.digest, base: FACTORS.base },
      ...{ factors: undefined, rank: 4, ranks: { q_proj: 4, v_proj: 4 } },
      ...{ bytes: lora.bytes.length, source: "test", state: "stored", current: true },
    });
    assertEquals(await store.cores.bytes(lora.digest), lora.bytes);
    assertEquals((await put(store, tenant, lora)).version, 2);
    assertEquals((await store.cores.rollback(tenant, "bot")).factors, FACTORS.digest);
    assertEquals((await store.cores.publish(tenant, "bot", 2)).ranks, { q_proj: 4, v_proj: 4 });
    const { items } = await store.cores.list(tenant, ALL);
    assertEquals(items.map(({ version, factors }) => [version, factors]), [[2, undefined]]);
    assertEquals(
      await store.tenants.storedBytes(tenant),
      core.bytes.length + lora.bytes.length,
    );
    await damage(store, "cores", `digest = '${lora.digest}'`);
    await assertRejects(() => store.cores.bytes(lora.digest), TypeError, `${tenant}/bot@2`);
    assertStringIncludes(log.warnings.at(-1) ?? "", `${tenant}/bot@2`);
    assertEquals((await put(store, tenant, lora)).state, "stored");
    assertEquals(await store.cores.bytes(lora.digest), lora.bytes);
    await store.cores.remove(tenant, "bot", undefined);
    assertEquals(await store.tenants.storedBytes(tenant), 0);
    await assertRejects(() => store.cores.bytes(lora.digest), RangeError, "not stored");
  },

  "the same content under a name is the same version, and is stored once": async (
    { store, newTenant },
  ) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const file = coreFile(3);
    await put(store, tenant, file);
    await put(store, tenant, coreFile(4));
    const again = await put(store, tenant, file, { publish: "later" });
    assertEquals([again.version, again.current], [1, false]);
    assertEquals((await put(store, other, file)).version, 1);
    const sql = `SELECT count(*) AS n FROM cores WHERE digest = '${file.digest}'`;
    assertEquals((await query(store.database, sql))[0]?.n, 1);
    const expected = file.bytes.length + coreFile(4).bytes.length;
    assertEquals(await store.tenants.storedBytes(tenant), expected);
    await store.cores.remove(tenant, "bot", undefined);
    assertEquals(await store.cores.bytes(file.digest), file.bytes);
    await store.cores.remove(other, "bot", 1);
    await assertRejects(() => store.cores.bytes(file.digest), RangeError, file.digest);
    assertEquals(await store.tenants.storedBytes(tenant), 0);
  },

  "a name is published, rolled back, and steps back when its version goes": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    for (const seed of [5, 6, 7]) await put(store, tenant, coreFile(seed));
    assertEquals(await current(store, tenant), 3);
    assertEquals((await store.cores.rollback(tenant, "bot")).version, 2);
    assertEquals(await current(store, tenant), 2);
    const published = await store.cores.publish(tenant, "bot", 3);
    assertEquals([published.version, published.current], [3, true]);
    assertEquals(await store.cores.remove(tenant, "bot", 3), 1);
    assertEquals(await current(store, tenant), 2);
    assertEquals(await store.cores.remove(tenant, "bot", 1), 1);
    await assertRejects(() => store.cores.rollback(tenant, "bot"), RangeError, "none is before it");
    await assertRejects(() => store.cores.publish(tenant, "bot", 1), RangeError, "bot@1");
    assertEquals(await store.cores.remove(tenant, "bot", undefined), 1);
    assertEquals(await current(store, tenant), undefined);
    assertEquals(await store.cores.remove(tenant, "bot", undefined), 0);
    assertEquals((await put(store, tenant, coreFile(5))).version, 4);
  },

  "what is no core, and a name that cannot be one, is refused": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const meta = { source: "test", publish: "now" } as const;
    const bad = () => store.cores.put(tenant, "bot", new Uint8Array(100), meta);
    await assertRejects(bad, TypeError);
    const { bytes } = coreFile(8);
    for (const name of ["", "../bot", "a/b", "bot@2", "x".repeat(65)]) {
      await assertRejects(() => store.cores.put(tenant, name, bytes, meta), TypeError);
    }
    await assertRejects(() => store.cores.put("nobody", "bot", bytes, meta), RangeError, "nobody");
    assertEquals(await store.cores.versions(tenant, "bot"), []);
  },

  "cores count against the quota": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { bytes } = coreFile(9);
    const limits = { ...NO_LIMITS, storedBytes: bytes.length };
    await store.tenants.update({ id: tenant, limits });
    await put(store, tenant, coreFile(9));
    await assertRejects(() => put(store, tenant, coreFile(10)), QuotaError, "storedBytes");
    assertEquals((await store.cores.versions(tenant, "bot")).length, 1);
    assertEquals(await store.tenants.storedBytes(tenant), bytes.length);
  },

  "a damaged core is named and quarantined; the others serve on; put again, it is mended": async (
    { store, newTenant, log },
  ) => {
    const tenant = await newTenant();
    const [good, bad] = [coreFile(11), coreFile(12)];
    await put(store, tenant, good);
    await put(store, tenant, bad);
    await damage(store, "cores", `digest = '${bad.digest}'`);
    const error = await assertRejects(() => store.cores.bytes(bad.digest), TypeError);
    assertStringIncludes(error.message, `${tenant}/bot@2`);
    assertStringIncludes(log.warnings.at(-1) ?? "", `${tenant}/bot@2`);
    assertEquals((await store.cores.resolve(tenant, "bot", LATEST))?.state, "quarantined");
    await assertRejects(() => store.cores.bytes(bad.digest), TypeError, "quarantined");
    assertEquals(await store.cores.bytes(good.digest), good.bytes);
    await store.cores.publish(tenant, "bot", 1);
    await assertRejects(() => store.cores.publish(tenant, "bot", 2), RangeError, "damaged");
    assertEquals((await put(store, tenant, bad)).state, "stored");
    assertEquals(await store.cores.bytes(bad.digest), bad.bytes);
  },

  "names are listed by tenant, page by page": async ({ store, newTenant }) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    for (const name of ["c", "a", "b"]) await put(store, tenant, coreFile(13), { name });
    await put(store, other, coreFile(13), { name: "z" });
    await put(store, tenant, coreFile(14), { name: "b", publish: "later" });
    const page = async (of: string | undefined, after: string | undefined) => {
      const query = { after, limit: 2, order: "asc" } as const;
      const { items, hasMore } = await store.cores.list(of, query);
      return [items.map((one) => `${one.name}@${one.version}`), hasMore];
    };
    assertEquals(await page(tenant, undefined), [["a@1", "b@1"], true]);
    assertEquals(await page(tenant, `${tenant}/b`), [["c@1"], false]);
    assertEquals(await page(tenant, `${tenant}/zz`), [[], false]);
    const all = await store.cores.list(undefined, { ...ALL, limit: Infinity });
    const here = all.items.filter((one) => [tenant, other].includes(one.tenant));
    assertEquals(here.length, 4);
  },

  "writers at once get versions of their own, and none is lost": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const files = Array.from({ length: 8 }, (_, i) => coreFile(20 + i % 4));
    const put8 = await Promise.all(files.map((file) => put(store, tenant, file)));
    assertEquals(new Set(put8.map(({ version }) => version)).size, 4);
    const versions = await store.cores.versions(tenant, "bot");
    assertEquals(versions.map(({ version }) => version).sort(), [1, 2, 3, 4]);
    assertEquals(versions.filter((one) => one.current).length, 1);
  },

  "a model is published with its core, and goes with it": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { models } = store.forTenant(tenant);
    const file = coreFile(30);
    const model = {
      ...{ id: `ft:tiny:${tenant}:bot:1`, jobId: "ftjob-1", name: "bot", createdAt: 5 },
      ...{ base: FACTORS.base, core: file.digest, factors: FACTORS.digest },
      ...{ trainedTokens: 7, resultFiles: ["file-1"] },
    };
    const published = await models.publish(model, file.bytes);
    assertEquals(published, { ...model, tenant, version: 1 });
    assertEquals(await models.publish(model, file.bytes), published);
    assertEquals(await models.find(model.id), published);
    assertEquals(await models.all(), [published]);
    assert((await store.models.all()).some(({ id }) => id === model.id));
    assertEquals(await store.cores.bytes(file.digest), file.bytes);
    assertEquals(await current(store, tenant), 1);
    const foreign = store.forTenant(await newTenant()).models;
    assertEquals([await foreign.find(model.id), await foreign.remove(model.id)], [
      undefined,
      false,
    ]);
    assert(await models.remove(model.id));
    assertEquals(await store.cores.versions(tenant, "bot"), []);
    await models.publish({ ...model, id: `${model.id}b` }, file.bytes);
    await store.cores.remove(tenant, "bot", undefined);
    assertEquals(await models.all(), []);
  },
};
