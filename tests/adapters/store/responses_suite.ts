/** What holds of stored responses on any database. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { QuotaError } from "../../../adapters/store/errors.ts";
import { sweepKept } from "../../../adapters/store/responses/kept_rows.ts";
import { NO_LIMITS, type StoredResponse } from "../../../adapters/store/store.ts";
import type { Cases } from "./cases.ts";

const HOUR = 3_600_000;

function response(more: Partial<StoredResponse> = {}): StoredResponse {
  const now = Date.now();
  return {
    id: `resp_${crypto.randomUUID().replaceAll("-", "")}`,
    previous: null,
    ...{ createdAt: now, expiresAt: now + HOUR },
    input: JSON.stringify([{ type: "message", content: "ä\u0000\u2028" }]),
    ...{ output: "[]", body: JSON.stringify({ status: "completed" }) },
    runningUntil: null,
    ...more,
  };
}

function sizeOf({ input, output, body }: StoredResponse): number {
  return new TextEncoder().encode(input + output + body).length;
}

export const RESPONSE_CASES: Cases = {
  "a response is found as it was put, by its tenant alone": async ({ store, newTenant }) => {
    const [mine, other] = [await newTenant(), await newTenant()];
    const one = response();
    const { responses } = store.forTenant(mine);
    await responses.add(one);
    assertEquals(await responses.find(one.id), one);
    assertEquals(await store.tenants.storedBytes(mine), sizeOf(one));
    const theirs = store.forTenant(other).responses;
    assertEquals(await theirs.find(one.id), undefined);
    assertEquals(await theirs.chain(one.id, 1e9), { type: "gone", id: one.id });
    assertEquals(await theirs.remove(one.id), false);
    assertEquals(await responses.remove(one.id), true);
    assertEquals(await responses.remove(one.id), false);
    assertEquals(await responses.find(one.id), undefined);
    assertEquals(await store.tenants.storedBytes(mine), 0);
    // a tenant that is not there has none
    assertEquals(await store.forTenant("nobody").responses.remove(one.id), false);
  },

  "a chain is read from its first response on, up to a size": async (
    { store, newTenant },
  ) => {
    const { responses } = store.forTenant(await newTenant());
    const first = response();
    const second = response({ previous: first.id });
    const third = response({ previous: second.id });
    const beside = response({ previous: first.id });
    await responses.add(first);
    await responses.add(second, { before: [first.id] });
    await responses.add(third, { before: [first.id, second.id] });
    await responses.add(beside, { before: [first.id] });
    const read = async (id: string) => {
      const found = await responses.chain(id, 1e9);
      return found.type === "whole" ? found.responses.map(({ id }) => id) : found;
    };
    assertEquals(await read(third.id), [first.id, second.id, third.id]);
    assertEquals(await read(beside.id), [first.id, beside.id]);
    const bytes = sizeOf(first) + sizeOf(second) + sizeOf(third);
    assertEquals((await responses.chain(third.id, bytes)).type, "whole");
    assertEquals(await responses.chain(third.id, bytes - 1), { type: "too large", bytes });
    await responses.remove(second.id);
    assertEquals(await read(third.id), { type: "gone", id: second.id });
    assertEquals(await read(beside.id), [first.id, beside.id]);
  },

  "what has expired is not there, is cleared, and is stored no more": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { responses } = store.forTenant(tenant);
    const old = response({ expiresAt: Date.now() - 1 });
    const kept = response();
    await responses.add(old);
    await responses.add(kept);
    assertEquals(await responses.find(old.id), undefined);
    assertEquals(await responses.chain(old.id, 1e9), { type: "gone", id: old.id });
    assertEquals(await responses.remove(old.id), false);
    await sweepKept(store.database.db, Date.now());
    const rows = await store.database.db.selectFrom("responses").select("id")
      .where("tenant", "=", tenant).execute();
    assertEquals(rows.map(({ id }) => id), [kept.id]);
    assertEquals(await store.tenants.storedBytes(tenant), sizeOf(kept));
  },

  "going on with a conversation keeps all of it": async ({ store, newTenant }) => {
    const { responses } = store.forTenant(await newTenant());
    const soon = Date.now() + 1000;
    const [first, aside] = [response({ expiresAt: soon }), response({ expiresAt: soon })];
    await responses.add(first);
    await responses.add(aside);
    const second = response({ previous: first.id });
    await responses.add(second, { before: [first.id] });
    assertEquals((await responses.find(first.id))?.expiresAt, second.expiresAt);
    assertEquals((await responses.find(aside.id))?.expiresAt, soon);
    // a shorter life takes nothing from those before
    const third = response({ previous: second.id, expiresAt: soon });
    await responses.add(third, { before: [first.id, second.id] });
    assertEquals((await responses.find(second.id))?.expiresAt, second.expiresAt);
  },

  "a tenant stores no more than it may, and everything goes with it": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { responses } = store.forTenant(tenant);
    const one = response();
    const storedBytes = sizeOf(one) + 5;
    await store.tenants.update({ id: tenant, limits: { ...NO_LIMITS, storedBytes } });
    await responses.checkRoom(storedBytes);
    await assertRejects(() => responses.checkRoom(storedBytes + 1), QuotaError);
    await responses.add(one);
    const more = response();
    await assertRejects(() => responses.add(more), QuotaError, "stored responses");
    assertEquals(await responses.find(more.id), undefined);
    assert(await store.tenants.remove(tenant));
    const rows = await store.database.db.selectFrom("responses").select("id")
      .where("tenant", "=", tenant).execute();
    assertEquals(rows, []);
    await assertRejects(() => responses.add(more), RangeError, tenant);
  },

  "one that runs is vouched for, told of and ended once; a lost one is neither": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { responses } = store.forTenant(tenant);
    const until = Date.now() + HOUR;
    const [one, lost] = [response({ runningUntil: until }), response({ runningUntil: 1 })];
    for (const each of [one, lost]) await responses.add(each);
    const ids = [one.id, lost.id, "resp_none"];
    assertEquals(await responses.vouch(ids, until + 1), new Set([one.id]));
    for (const { id } of [one, lost]) await responses.tell(id, "{}");
    assertEquals(await responses.find(one.id), { ...one, body: "{}", runningUntil: until + 1 });
    assertEquals(await responses.find(lost.id), lost);
    const end = { output: `["ä"]`, body: `{"a":1}` };
    const others = store.forTenant(await newTenant()).responses;
    assertEquals(await others.end(one.id, end), false);
    assertEquals([await responses.end(lost.id, end), await responses.remove(lost.id)], [
      false,
      true,
    ]);
    assertEquals(await responses.end(one.id, end), true);
    assertEquals(await responses.end(one.id, end), false);
    assertEquals(await responses.vouch([one.id], until), new Set());
    const ended = { ...one, ...end, runningUntil: null };
    assertEquals(await responses.find(one.id), ended);
    assertEquals(await store.tenants.storedBytes(tenant), sizeOf(ended));
    const chained = await responses.chain(one.id, sizeOf(ended));
    assertEquals(chained.type, "whole");
  },
};
