/** Keys over a real store: their text, their hash, and how soon the check knows what has changed. */
import { assert, assertEquals, assertLess, assertMatch, assertRejects } from "@std/assert";
import type { KeyRecord, KeyStore, Store } from "../../adapters/store/store.ts";
import {
  FIRST_KEY,
  hintOf,
  isKeyText,
  issueFirstKey,
  issueKey,
  keyHash,
  newKeyText,
  openSecret,
} from "../../server/access/keys.ts";
import { KeyCheck } from "../../server/access/key_check.ts";
import { openStore } from "../../adapters/store/open_store.ts";
import { onPostgres } from "../programs/postgres.ts";
import { startPostgres } from "../adapters/store/postgres_server.ts";
import { keepingLog, openTestStore } from "../adapters/store/test_store.ts";
import { query } from "../adapters/store/cases.ts";

const hash = keyHash("a secret of the test");
const ORDER = { tenant: "default", name: "ci", scopes: ["infer"], expiresAt: null } as const;

Deno.test("a key is long, random and told apart from a mistyped one", () => {
  const texts = Array.from({ length: 200 }, newKeyText);
  assertEquals(new Set(texts).size, texts.length);
  for (const text of texts) {
    assertMatch(text, /^lmb_[0-9A-Za-z]{49}$/);
    assert(isKeyText(text));
    const swapped = text.slice(0, 20) + (text[20] === "a" ? "b" : "a") + text.slice(21);
    assert(!isKeyText(swapped), swapped);
  }
  for (const text of ["", "lmb_", "sk-abc", `${texts[0]}x`, ` ${texts[0]}`, `${texts[0]}\n`]) {
    assert(!isKeyText(text), text);
  }
  assertMatch(hintOf(texts[0] ?? ""), /^lmb_\w{6}$/);
});

Deno.test("every character of a key is as likely as any other", () => {
  const counts = new Map<string, number>();
  const drawn = Array.from({ length: 400 }, () => newKeyText().slice(4, 47)).join("");
  for (const one of drawn) counts.set(one, (counts.get(one) ?? 0) + 1);
  const expected = drawn.length / 62;
  const chi = [...counts.values()].reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  assertEquals(counts.size, 62);
  // 61 degrees of freedom: 140 is passed once in ten million times
  assertLess(chi, 140);
});

Deno.test("a hash is HMAC-SHA-256, as other tools count it", () => {
  // RFC 4231, test case 2
  assertEquals(
    keyHash("Jefe")("what do ya want for nothing?").toHex(),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  );
});

Deno.test("keys are issued, checked, hashed in the store, and end by date or by revocation", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  let now = Date.now();
  using check = new KeyCheck({ keys: store.keys, changes: store.changes, hash, now: () => now });
  const { text, record } = await issueKey(store, hash, { ...ORDER, expiresAt: now + 60_000 });
  assertEquals([record.hint, record.tenant], [text.slice(0, 10), "default"]);
  const verdict = await check.check(text);
  assertEquals(verdict.type === "valid" && verdict.key.id, record.id);
  await assertNowhere(store, text);
  now += 60_000;
  assertEquals((await check.check(text)).type, "expired");
  now -= 60_000;
  assertEquals((await check.check(text)).type, "valid");
  await store.keys.revoke("default", record.id);
  await revokedSoon(check, text);
  assertEquals((await check.check(newKeyText())).type, "unknown");
  assertEquals((await check.check("lmb_nothing")).type, "unknown");
  const { keys, changes } = store;
  using stranger = new KeyCheck({ keys, changes, hash: keyHash("another secret") });
  assertEquals((await stranger.check(text)).type, "unknown");
});

/** The key's text lies in no table. */
async function assertNowhere({ database }: Store, text: string): Promise<void> {
  const tables = await database.db.introspection.getTables();
  assert(tables.length > 5);
  for (const { name } of tables) {
    for (const row of await query(database, `SELECT * FROM "${name}"`)) {
      for (const value of Object.values(row)) {
        const found = value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value);
        assertEquals(found.includes(text.slice(10, 40)), false, name);
      }
    }
  }
}

async function revokedSoon(check: KeyCheck, text: string): Promise<void> {
  const start = performance.now();
  while ((await check.check(text)).type !== "revoked") {
    assertLess(performance.now() - start, 1000, "a revoked key is good for more than a second");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("a revocation holds within a second also where its news is lost", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  const deaf = { on: () => ({ [Symbol.dispose]: () => {} }) };
  using check = new KeyCheck({ keys: store.keys, changes: deaf, hash });
  const { text, record } = await issueKey(store, hash, ORDER);
  assertEquals((await check.check(text)).type, "valid");
  await store.keys.revoke("default", record.id);
  await revokedSoon(check, text);
});

Deno.test({
  ...onPostgres(
    "a key revoked by one process is refused by another within a second, on PostgreSQL",
  ),
  fn: async () => {
    await using server = await startPostgres();
    const location = { type: "url", url: await server.newDatabase() } as const;
    await using here = await openStore(location, keepingLog());
    await using there = await openStore(location, keepingLog());
    using check = new KeyCheck({ keys: there.keys, changes: there.changes, hash });
    assertEquals(await here.keys.secret(), await there.keys.secret());
    for (let round = 0; round < 3; round++) {
      const { text, record } = await issueKey(here, hash, ORDER);
      assertEquals((await check.check(text)).type, "valid");
      await here.keys.revoke("default", record.id);
      await revokedSoon(check, text);
    }
  },
});

/** A store of keys that counts questions and can be away: what no real one does on command. */
class AskedKeys implements Pick<KeyStore, "findByHash"> {
  asked = 0;
  failure: Error | undefined;

  findByHash(): Promise<KeyRecord | undefined> {
    this.asked++;
    return this.failure === undefined ? Promise.resolve(undefined) : Promise.reject(this.failure);
  }
}

Deno.test("a flood of one key asks the store twice a second, wrong texts never", async () => {
  const keys = new AskedKeys();
  let now = 0;
  const changes = { on: () => ({ [Symbol.dispose]: () => {} }) };
  using check = new KeyCheck({ keys, changes, hash, now: () => now });
  const text = newKeyText();
  for (; now < 1000; now += 10) await check.check(text);
  assertEquals(keys.asked, 2);
  for (let i = 0; i < 100; i++) await check.check(`lmb_${"a".repeat(49)}`);
  assertEquals(keys.asked, 2);
});

Deno.test("while the store is away nothing is known, and it is asked again at once", async () => {
  const keys = new AskedKeys();
  const changes = { on: () => ({ [Symbol.dispose]: () => {} }) };
  using check = new KeyCheck({ keys, changes, hash, now: () => 0 });
  const text = newKeyText();
  keys.failure = new Error("away");
  await assertRejects(() => check.check(text), Error, "away");
  keys.failure = undefined;
  assertEquals((await check.check(text)).type, "unknown");
});

Deno.test("a store without usable keys gets one administrator's, of several that start at once", async () => {
  await using opened = await openTestStore();
  const { store } = opened;
  const issued = await Promise.all([1, 2, 3].map(() => issueFirstKey(store, hash)));
  const given = issued.filter((one) => one !== undefined);
  assertEquals(given.length, 1);
  assertEquals(await store.keys.countUsable(), 1);
  assertEquals(given[0]?.record.scopes, ["infer", "train", "admin"]);
  assertEquals(given[0]?.record.name, FIRST_KEY);
  assertEquals(await issueFirstKey(store, hash), undefined);
  await store.keys.revoke("default", given[0]?.record.id ?? "");
  assertEquals((await issueFirstKey(store, hash))?.record.name, FIRST_KEY);
});

Deno.test("the secret is the environment's where it has one, else the store's, for good", async () => {
  await using opened = await openTestStore();
  const { keys } = opened.store;
  const own = await openSecret(keys, () => undefined);
  assert(typeof own !== "string" && own.length === 32);
  assertEquals(await openSecret(keys, () => ""), own);
  const given = "0123456789abcdef0123456789abcdef";
  const named = (name: string) => name === "LEMBAS_KEY_SECRET" ? given : undefined;
  assertEquals(await openSecret(keys, named), given);
  const error = await assertRejects(() => openSecret(keys, () => "short"), TypeError);
  assertMatch(error.message, /LEMBAS_KEY_SECRET: it has 5 characters, .*at least 32/);
});
