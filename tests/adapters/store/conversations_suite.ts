/** What holds of conversations on any database. */
import { assertEquals, assertRejects } from "@std/assert";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { NO_LIMITS, type StoredResponse } from "../../../adapters/store/store.ts";
import { FieldRangeError } from "../../../src/util/errors.ts";
import type { Cases } from "./cases.ts";

const ALL = { after: undefined, limit: 10, order: "asc" } as const;

function conversation() {
  const id = `conv_${crypto.randomUUID().replaceAll("-", "")}`;
  return { id, createdAt: Date.now(), metadata: { topic: "ä\u0000" } };
}

function item(id: string) {
  return { id, body: JSON.stringify({ id, type: "message", text: "ä\u0000\u2028" }) };
}

function response(): StoredResponse {
  const now = Date.now();
  const id = `resp_${crypto.randomUUID().replaceAll("-", "")}`;
  const times = { createdAt: now, expiresAt: now + 3_600_000 };
  return {
    id,
    previous: null,
    ...times,
    input: "[]",
    output: "[]",
    body: "{}",
    runningUntil: null,
  };
}

export const CONVERSATION_CASES: Cases = {
  "a conversation is its tenant's alone, and counted until it is deleted": async (
    { store, newTenant },
  ) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const one = conversation();
    const { conversations } = store.forTenant(mine);
    const stored = () => store.tenants.storedBytes(mine);
    await conversations.create(one, [item("a")]);
    assertEquals(await conversations.find(one.id), one);
    const first = await stored();
    const theirs = store.forTenant(other).conversations;
    assertEquals(await theirs.find(one.id), undefined);
    assertEquals(await theirs.item(one.id, "a"), undefined);
    assertEquals(await theirs.items(one.id, ALL), { items: [], hasMore: false });
    assertEquals(await theirs.whole(one.id, 1e9), { type: "gone" });
    assertEquals(await theirs.append(one.id, [item("x")]), false);
    assertEquals(await theirs.update(one.id, {}), false);
    assertEquals(await theirs.removeItem(one.id, "a"), false);
    assertEquals(await theirs.remove(one.id), false);
    assertEquals([await stored(), await store.tenants.storedBytes(other)], [first, 0]);
    assertEquals(await conversations.append(one.id, [item("b"), item("c")]), true);
    assertEquals(await conversations.update(one.id, { topic: "another, longer one" }), true);
    assertEquals((await conversations.find(one.id))?.metadata, { topic: "another, longer one" });
    assertEquals(await conversations.update(one.id, one.metadata), true);
    for (const id of ["b", "c"]) assertEquals(await conversations.removeItem(one.id, id), true);
    assertEquals(await conversations.removeItem(one.id, "c"), false);
    assertEquals(await stored(), first);
    assertEquals(await conversations.remove(one.id), true);
    assertEquals(await conversations.remove(one.id), false);
    assertEquals([await stored(), await conversations.find(one.id)], [0, undefined]);
  },

  "items keep their order, page by page and together": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const one = conversation();
    const { conversations } = store.forTenant(tenant);
    await conversations.create(one, [item("b"), item("a")]);
    await conversations.append(one.id, [item("c")]);
    const ids = async (more: Partial<Parameters<typeof conversations.items>[1]>) =>
      (await conversations.items(one.id, { ...ALL, ...more })).items.map(({ id }) => id);
    assertEquals(await ids({}), ["b", "a", "c"]);
    assertEquals(await ids({ order: "desc" }), ["c", "a", "b"]);
    assertEquals(await ids({ after: "b", limit: 1 }), ["a"]);
    assertEquals((await conversations.items(one.id, { ...ALL, limit: 2 })).hasMore, true);
    await assertRejects(() => ids({ after: "z" }), FieldRangeError, "after");
    assertEquals(await conversations.item(one.id, "a"), item("a"));
    const bytes = await store.tenants.storedBytes(tenant);
    const whole = { type: "whole", items: ["b", "a", "c"].map(item) };
    assertEquals(await conversations.whole(one.id, bytes) as unknown, whole);
    const large = await conversations.whole(one.id, bytes - 1);
    assertEquals(large as unknown, { type: "too large", bytes });
  },

  "a response and what it adds to a conversation are kept together, or not at all": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const one = conversation();
    const { conversations, responses } = store.forTenant(tenant);
    await conversations.create(one, []);
    const first = response();
    await responses.add(first, { said: { conversation: one.id, items: [item("a")] } });
    assertEquals(await conversations.item(one.id, "a"), item("a"));
    const used = await store.tenants.storedBytes(tenant);
    // room for the response, and none for its item
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes: used + 10 } });
    const second = response();
    const said = { conversation: one.id, items: [item("b")] };
    await assertRejects(() => responses.add(second, { said }), QuotaError, tenant);
    assertEquals(await responses.find(second.id), undefined);
    assertEquals(await store.tenants.storedBytes(tenant), used);
    await store.tenants.update({ id: tenant, limits: NO_LIMITS });
    // one that is gone takes no response with it
    await conversations.remove(one.id);
    await responses.add(second, { said });
    assertEquals(await responses.find(second.id), second);
    await conversations.create(one, [item("a")]);
    assertEquals(await store.tenants.remove(tenant), true);
    assertEquals(await conversations.whole(one.id, 1e9), { type: "gone" });
  },
};
