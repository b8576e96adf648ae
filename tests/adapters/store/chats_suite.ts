/** What holds of stored chat completions on any database. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { sweepKept } from "../../../adapters/store/responses/kept_rows.ts";
import { type ChatStore, NO_LIMITS, type StoredChat } from "../../../adapters/store/store.ts";
import { FieldRangeError } from "../../../src/util/errors.ts";
import type { Cases } from "./cases.ts";

const HOUR = 3_600_000;

function chat(more: Partial<StoredChat> = {}): StoredChat {
  const now = Date.now();
  return {
    id: `chatcmpl-${crypto.randomUUID().replaceAll("-", "")}`,
    ...{ model: "tiny", createdAt: now, expiresAt: now + HOUR, metadata: {} },
    messages: JSON.stringify([{ role: "user", content: "ä\u0000\u2028" }]),
    body: JSON.stringify({ choices: [] }),
    ...more,
  };
}

function sizeOf({ metadata, messages, body }: StoredChat): number {
  return new TextEncoder().encode(JSON.stringify(metadata) + messages + body).length;
}

const ALL = { after: undefined, limit: 10, order: "asc", model: undefined, metadata: {} } as const;

async function idsOf(chats: ChatStore, more: Partial<Parameters<ChatStore["list"]>[0]>) {
  return (await chats.list({ ...ALL, ...more })).items.map(({ id }) => id);
}

export const CHAT_CASES: Cases = {
  "a chat is found as it was put, changed and removed, by its tenant alone": async (
    { store, newTenant },
  ) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const one = chat({ metadata: { a: "b" } });
    const { chats } = store.forTenant(mine);
    await chats.add(one);
    assertEquals(await chats.find(one.id), one);
    assertEquals(await store.tenants.storedBytes(mine), sizeOf(one));
    const theirs = store.forTenant(other).chats;
    assertEquals(await theirs.find(one.id), undefined);
    assertEquals(await theirs.update(one.id, {}), undefined);
    assertEquals(await theirs.remove(one.id), false);
    assertEquals(await idsOf(theirs, {}), []);
    await assertRejects(() => idsOf(theirs, { after: one.id }), FieldRangeError, "after");
    const changed = { ...one, metadata: { c: "longer than before" } };
    const { messages: _, ...listed } = changed;
    assertEquals(await chats.update(one.id, changed.metadata), listed);
    assertEquals(await chats.find(one.id), changed);
    assertEquals(await store.tenants.storedBytes(mine), sizeOf(changed));
    assertEquals(await chats.remove(one.id), true);
    assertEquals(await chats.remove(one.id), false);
    assertEquals(await chats.update(one.id, {}), undefined);
    assertEquals(await store.tenants.storedBytes(mine), 0);
  },

  "chats are listed by page, model and metadata": async ({ store, newTenant }) => {
    const { chats } = store.forTenant(await newTenant());
    const odd = 'q"\\:,\u0000ä%_';
    const one = chat({ metadata: { a: "b", [odd]: odd } });
    const two = chat({ metadata: { a: 'x","a":"b' }, model: "other" });
    const three = chat({ metadata: { a: "B" } });
    const old = chat({ expiresAt: Date.now() - 1, metadata: { a: "b" } });
    for (const each of [one, two, three, old]) await chats.add(each);
    assertEquals(await idsOf(chats, {}), [one.id, two.id, three.id]);
    assertEquals(await idsOf(chats, { order: "desc" }), [three.id, two.id, one.id]);
    assertEquals(await idsOf(chats, { after: one.id, limit: 1 }), [two.id]);
    assertEquals(await chats.list({ ...ALL, limit: 0 }), { items: [], hasMore: true });
    assertEquals(await idsOf(chats, { model: "other" }), [two.id]);
    assertEquals(await idsOf(chats, { metadata: { a: "b" } }), [one.id]);
    assertEquals(await idsOf(chats, { metadata: { a: "b", [odd]: odd } }), [one.id]);
    assertEquals(await idsOf(chats, { metadata: { a: "b", [odd]: "b" } }), []);
    assertEquals(await idsOf(chats, { metadata: { a: 'x","a":"b' } }), [two.id]);
    assertEquals(await idsOf(chats, { metadata: { A: "b" } }), []);
    await assertRejects(() => idsOf(chats, { after: old.id }), FieldRangeError, "after");
  },

  "chats that have expired are not there, and are cleared": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { chats } = store.forTenant(tenant);
    const [old, kept] = [chat({ expiresAt: Date.now() - 1 }), chat()];
    await chats.add(old);
    await chats.add(kept);
    assertEquals(await chats.find(old.id), undefined);
    assertEquals(await chats.update(old.id, {}), undefined);
    assertEquals(await chats.remove(old.id), false);
    await sweepKept(store.database.db, Date.now());
    const rows = await store.database.db.selectFrom("chats").select("id")
      .where("tenant", "=", tenant).execute();
    assertEquals(rows.map(({ id }) => id), [kept.id]);
    assertEquals(await store.tenants.storedBytes(tenant), sizeOf(kept));
  },

  "a tenant keeps no more chats than it may, and they go with it": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { chats } = store.forTenant(tenant);
    const one = chat();
    const storedBytes = sizeOf(one) + 5;
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes } });
    await assertRejects(() => chats.checkRoom(storedBytes + 1), QuotaError);
    await chats.add(one);
    await assertRejects(() => chats.add(chat()), QuotaError, "chats");
    await assertRejects(() => chats.update(one.id, { a: "much longer" }), QuotaError);
    assertEquals((await chats.find(one.id))?.metadata, {});
    assertEquals(await store.tenants.storedBytes(tenant), sizeOf(one));
    assert(await store.tenants.remove(tenant));
    const rows = await store.database.db.selectFrom("chats").select("id")
      .where("tenant", "=", tenant).execute();
    assertEquals(rows, []);
    await assertRejects(() => chats.add(chat()), RangeError, tenant);
  },
};
