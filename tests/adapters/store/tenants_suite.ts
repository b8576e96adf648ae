/** What holds of tenants, keys, usage and changes on any database. */
import { failureOf } from "../../../adapters/store/database/sql_error.ts";
import { assert, assertEquals, assertGreater, assertMatch, assertRejects } from "@std/assert";
import {
  type ChangeDetail,
  type ChangeKind,
  NO_LIMITS,
  type Store,
  type UsageRecord,
} from "../../../adapters/store/store.ts";
import { addFile, ALL, type Cases, coreFile } from "./cases.ts";

/** How soon a change is told; the task's own bound. */
const TOLD_MS = 1000;

function hashOf(): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(32));
}

const KEY = { name: "ci", hint: "lm-abc", scopes: ["infer", "train"], expiresAt: null } as const;

function usage(tenant: string, id: string, more: Partial<UsageRecord> = {}): UsageRecord {
  return {
    ...{ id: `${tenant}-${id}`, at: Date.UTC(2026, 0, 31, 23), tenant, keyId: null, model: "m" },
    ...{ kind: "chat", promptTokens: 10, cachedTokens: 4, completionTokens: 3, trainedTokens: 0 },
    requestId: `req-${id}`,
    ...more,
  };
}

/** The next change of a kind that fits. */
function nextChange(
  store: Store,
  kind: ChangeKind,
  fits: (detail: ChangeDetail) => boolean,
): Promise<ChangeDetail> {
  const { promise, resolve, reject } = Promise.withResolvers<ChangeDetail>();
  const late = setTimeout(() => reject(new Error(`no ${kind} change within a second`)), TOLD_MS);
  const listening = store.changes.on(kind, (detail) => fits(detail) && resolve(detail));
  return promise.finally(() => {
    clearTimeout(late);
    listening[Symbol.dispose]();
  });
}

export const TENANT_CASES: Cases = {
  "the default tenant is there, others are made once": async ({ store, newTenant }) => {
    assertEquals((await store.tenants.find("default"))?.limits, NO_LIMITS);
    const id = `${await newTenant()}.b-2_X`;
    const made = await store.tenants.create({ id, limits: { weight: 3, concurrency: 2 } });
    assertEquals(made.limits, { ...NO_LIMITS, weight: 3, concurrency: 2 });
    assertEquals(await store.tenants.find(id), made);
    assertEquals(await store.tenants.ensure(id), made);
    await assertRejects(() => store.tenants.create({ id }), RangeError, id);
    for (const bad of ["", "a b", "-a", ".a", "a/b", "x".repeat(65), "ä"]) {
      await assertRejects(() => store.tenants.create({ id: bad }), TypeError);
    }
    const ensured = await Promise.all([1, 2, 3].map(() => store.tenants.ensure(`${id}2`)));
    assertEquals(new Set(ensured.map(({ createdAt }) => createdAt)).size, 1);
  },

  "limits are replaced, and tenants paged": async ({ store, newTenant }) => {
    const [a, b] = [await newTenant(), await newTenant()];
    const limits = { ...NO_LIMITS, requestsPerMinute: 5, priority: -1 };
    await store.tenants.update({ id: a, limits });
    assertEquals((await store.tenants.find(a))?.limits, limits);
    await assertRejects(() => store.tenants.update({ id: "nobody", limits }), RangeError);
    const query = { after: a, limit: 1, order: "asc" } as const;
    assertEquals((await store.tenants.list(query)).items.map(({ id }) => id), [b]);
    const all = await store.tenants.list({ ...ALL, limit: Infinity });
    assertEquals(all.hasMore, false);
    assert(all.items.some(({ id }) => id === "default"));
    await assertRejects(() => store.tenants.list({ ...ALL, after: "nobody" }), RangeError);
  },

  "with a tenant goes all it has, but not its usage, nor what others share": async (
    { store, newTenant },
  ) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const [shared, own] = [coreFile(200), coreFile(201)];
    const meta = { source: "test", publish: "now" } as const;
    await addFile(store, tenant, "x");
    await store.cores.put(tenant, "bot", shared.bytes, meta);
    await store.cores.put(tenant, "bot", own.bytes, meta);
    await store.cores.put(other, "bot", shared.bytes, meta);
    const hash = hashOf();
    await store.keys.create({ ...KEY, tenant }, hash);
    await store.usage.add([usage(tenant, "1")]);
    assert(await store.tenants.remove(tenant));
    assertEquals(await store.tenants.remove(tenant), false);
    assertEquals(await store.keys.findByHash(hash), undefined);
    assertEquals(await store.cores.versions(tenant, "bot"), []);
    assertEquals(await store.cores.bytes(shared.digest), shared.bytes);
    await assertRejects(() => store.cores.bytes(own.digest), RangeError);
    assertEquals((await store.usage.total({ tenant, by: "tenant" })).length, 1);
  },

  "a key is found by its hash, revoked once, and another tenant's is unknown": async (
    { store, newTenant },
  ) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const [hash, second] = [hashOf(), hashOf()];
    const before = await store.keys.countUsable();
    const key = await store.keys.create({ ...KEY, tenant }, hash);
    assertMatch(key.id, /^key_[A-Za-z0-9]{24}$/);
    assertEquals([key.scopes, key.revokedAt, key.hint], [["infer", "train"], null, "lm-abc"]);
    const expired = await store.keys.create({ ...KEY, tenant, expiresAt: 5 }, second);
    assertEquals(await store.keys.countUsable(), before + 1);
    assertEquals(await store.keys.findByHash(hash), key);
    assertEquals(await store.keys.findByHash(second), expired);
    assertEquals(await store.keys.findByHash(hashOf()), undefined);
    const query = { after: key.id, limit: 5, order: "asc" } as const;
    assertEquals((await store.keys.list(tenant, query)).items, [expired]);
    assertEquals((await store.keys.list(other, ALL)).items, []);
    assertEquals(await store.keys.find(other, key.id), undefined);
    assertEquals(await store.keys.revoke(other, key.id), false);
    assertEquals(await store.keys.revoke(tenant, key.id), true);
    assertEquals(await store.keys.revoke(tenant, key.id), false);
    assertGreater((await store.keys.findByHash(hash))?.revokedAt ?? 0, 0);
    assertEquals(await store.keys.countUsable(), before);
    await assertRejects(
      () => store.keys.create({ ...KEY, tenant: "nobody" }, hashOf()),
      RangeError,
    );
  },

  "the keys' secret stays the same": async ({ store }) => {
    const [a, b] = await Promise.all([store.keys.secret(), store.keys.secret()]);
    assertEquals([a.length, a], [32, b]);
  },

  "usage is added once however often it is told, and adds up": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const next = Date.UTC(2026, 1, 1);
    const records = [
      usage(tenant, "1"),
      usage(tenant, "2", { model: "n", at: next }),
      usage(tenant, "3", { kind: "training", at: next, trainedTokens: 3_000_000_000 }),
    ];
    await Promise.all([store.usage.add(records), store.usage.add(records.slice(1))]);
    await store.usage.add([]);
    const total = async (more: object) => await store.usage.total({ tenant, by: "day", ...more });
    const one = { promptTokens: 10, cachedTokens: 4, completionTokens: 3 };
    const two = { promptTokens: 20, cachedTokens: 8, completionTokens: 6 };
    const first = { key: "2026-01-31", requests: 1, ...one, trainedTokens: 0 };
    const second = { key: "2026-02-01", requests: 2, ...two, trainedTokens: 3_000_000_000 };
    assertEquals(await total({}), [first, second]);
    assertEquals(await total({ to: next }), [first]);
    assertEquals(await total({ from: next }), [second]);
    const byModel = await total({ by: "model" });
    assertEquals(byModel.map(({ key, requests }) => [key, requests]), [["m", 2], ["n", 1]]);
    const all = await store.usage.total({ by: "tenant" });
    assertEquals(all.find(({ key }) => key === tenant)?.requests, 3);
    const job = { id: "req-3", tenant, createdAt: next };
    assertEquals(await store.usage.trained(job), 3_000_000_000);
    assertEquals(await store.usage.trained({ ...job, id: "req-2" }), 0);
  },

  "many usage records go in at once": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    await store.usage.add(Array.from({ length: 1234 }, (_, i) => usage(tenant, `${i}`)));
    const [sum] = await store.usage.total({ tenant, by: "tenant" });
    assertEquals([sum?.requests, sum?.promptTokens], [1234, 12340]);
  },

  "changes are told within a second, with their tenant": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const own = ({ tenant: of }: ChangeDetail) => of === tenant;
    const { bytes } = coreFile(202);
    const meta = { source: "test", publish: "now" } as const;
    const core = nextChange(store, "core", own);
    await store.cores.put(tenant, "bot", bytes, meta);
    assertEquals(await core, { tenant, id: "bot" });
    const key = nextChange(store, "key", own);
    const { id } = await store.keys.create({ ...KEY, tenant }, hashOf());
    assertEquals(await key, { tenant, id });
    const limits = nextChange(store, "tenant", own);
    await store.tenants.update({ id: tenant, limits: NO_LIMITS });
    assertEquals(await limits, { tenant, id: tenant });
    const odd = nextChange(store, "job", own);
    await store.changes.tell("job", { tenant, id: 'it\'s "odd"' });
    assertEquals((await odd).id, 'it\'s "odd"');
  },

  "a listener that throws does not keep others from hearing": async ({ store, log }) => {
    using _ = store.changes.on("job", () => {
      throw new TypeError("deaf");
    });
    const heard = nextChange(store, "job", ({ id }) => id === "ftjob-deaf");
    await store.changes.tell("job", { id: "ftjob-deaf" });
    await heard;
    assert(log.warnings.some((line) => line.includes("deaf")));
  },

  "the database answers": async ({ store }) => {
    await store.ping();
  },

  "a text with a NUL is refused as such, not cut off": async ({ store }) => {
    const key = {
      tenant: "default",
      name: "a\0b",
      hint: "h",
      scopes: [],
      expiresAt: null,
    } as const;
    const create = () => store.keys.create(key, crypto.getRandomValues(new Uint8Array(32)));
    assertEquals(failureOf(await assertRejects(create)), "bad character");
  },

  "SQL of several statements runs where the queue of jobs needs it": async ({ store }) => {
    const { database } = store;
    if (database.kind !== "postgres") return;
    const { rows } = await database.executeSql("SELECT 1 AS a; SELECT 2 AS b");
    assertEquals(rows, [{ a: 1 }, { b: 2 }]);
    const typed = await database.executeSql(
      "SELECT $1::text[] AS t, $2::jsonb AS j, $3::int8 AS i, now() AS d",
      [["a", 'b"'], JSON.stringify({ x: [1] }), 5],
    );
    const { t, j, i, d } = typed.rows[0];
    assertEquals([t, j, i, d instanceof Date], [["a", 'b"'], { x: [1] }, 5, true]);
    const bad = await assertRejects(() => database.executeSql("SELECT nothing"), Error);
    assertEquals("code" in bad && bad.code, "42703");
    // a transaction that fails half way keeps nobody else from working
    for (let i = 0; i < 10; i++) {
      const torn = "BEGIN; CREATE TABLE torn (); SELECT nothing; COMMIT";
      await assertRejects(() => database.executeSql(torn), Error);
    }
    assertEquals((await database.executeSql("SELECT 3 AS c")).rows, [{ c: 3 }]);
  },
};
