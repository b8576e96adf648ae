/** The console's door: who gets a session, what it is worth, when it ends, and whose forms are taken. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Sessions } from "../../../server/console/session.ts";
import { keyHash } from "../../../server/access/keys.ts";
import type { KeyRecord } from "../../../adapters/store/store.ts";
import { openKeyedApp } from "../keyed_app.ts";
import { Visitor } from "./visitor.ts";

const PAGES = ["", "/tenants", "/tenants/acme", "/cores", "/jobs", "/playground", "/live"];

Deno.test("the console's door", async (t) => {
  await using keyed = await openKeyedApp();
  await t.step(
    "without a session every page leads to the door, and only the door and its assets open",
    async () => {
      const visitor = new Visitor(keyed.app);
      for (const path of PAGES) {
        const { status, location } = await visitor.get(`/console${path}`);
        assertEquals([status, location], [303, "/console/sign-in"], path);
      }
      const { status, html } = await visitor.get("/console/sign-in");
      assertEquals(status, 200);
      const assets = [...html.matchAll(/(?:href|src)="(\/console\/assets\/[^"]+)"/g)];
      assertEquals(new Set(assets.map(([, path]) => path)).size, 6);
      for (const [, path = ""] of assets) assertEquals((await visitor.get(path)).status, 200, path);
    },
  );
  await t.step(
    "a key opens a session in a cookie that no script and no other site gets",
    async () => {
      const visitor = new Visitor(keyed.app);
      const { status, location, headers } = await visitor.signIn(keyed.keys.admin);
      assertEquals([status, location], [303, "/console"]);
      const cookie = headers.get("set-cookie") ?? "";
      for (const part of ["HttpOnly", "SameSite=Strict", "Path=/console"]) {
        assertMatch(cookie, RegExp(part));
      }
      assert(!cookie.includes(keyed.keys.admin), "the key itself is not in the browser");
      assert(!cookie.includes("Secure"), "plain HTTP has no secure cookies");
      assertEquals((await visitor.get("/console")).status, 200);
      const secure = await visitor.post("/console/sign-in", { key: keyed.keys.admin }, {
        "x-forwarded-proto": "https",
      });
      assertMatch(secure.headers.get("set-cookie") ?? "", /Secure/);
    },
  );
  await t.step("a wrong key gets a page that does not repeat it", async () => {
    const visitor = new Visitor(keyed.app);
    for (const key of ["", "lmb_wrong", '"><script>']) {
      const { status, html } = await visitor.signIn(key);
      assertEquals(status, 401);
      assertMatch(html, /This key is not good/);
      assert(key === "" || !html.includes(key));
      assertEquals(visitor.cookie, undefined);
    }
    assert(!keyed.lines.some((line) => line.includes("lmb_wrong")), "no key is in the log");
  });
  await t.step("forms of other sites, and of other sessions, change nothing", async () => {
    const [visitor, other] = [new Visitor(keyed.app), new Visitor(keyed.app)];
    await visitor.signIn(keyed.keys.admin);
    await other.signIn(keyed.keys.acme);
    const stranger = await other.formToken() ?? "";
    const attempts = [
      visitor.post("/console/tenants", { id: "evil" }, { "sec-fetch-site": "cross-site" }),
      visitor.post("/console/tenants", { id: "evil" }, { "sec-fetch-site": "same-site" }),
      visitor.post("/console/tenants", { id: "evil" }, { origin: "http://evil.test" }),
      visitor.post("/console/tenants", { id: "evil" }, { origin: "null" }),
      visitor.post("/console/tenants", { id: "evil", form_token: "" }),
      visitor.post("/console/tenants", { id: "evil", form_token: stranger }),
    ];
    for (const { status } of await Promise.all(attempts)) assertEquals(status, 403);
    assertEquals(await keyed.store.tenants.find("evil"), undefined);
    assertEquals((await visitor.post("/console/tenants", { id: "good" })).status, 303);
  });
  await t.step("a session ends with its key, and when one signs out", async () => {
    const [first, second] = [new Visitor(keyed.app), new Visitor(keyed.app)];
    await first.signIn(keyed.keys.acme);
    await second.signIn(keyed.keys.globex);
    const page = { after: undefined, limit: 10, order: "asc" } as const;
    const [key] = (await keyed.store.keys.list("acme", page)).items;
    await keyed.store.keys.revoke("acme", key?.id ?? "");
    assertEquals((await first.get("/console")).location, "/console/sign-in");
    assertEquals((await second.get("/console")).status, 200);
    assertEquals((await second.post("/console/sign-out", {})).location, "/console/sign-in");
    assertEquals(second.cookie, undefined);
  });
});

const KEY: KeyRecord = {
  id: "key_1",
  tenant: "acme",
  name: "",
  hint: "lmb_",
  scopes: ["infer"],
  createdAt: 0,
  expiresAt: null,
  revokedAt: null,
};

function sessions(
  { key = KEY, secret = "s".repeat(32), apiKey = undefined as string | undefined },
) {
  const clock = { now: 1_000_000 };
  const keys = {
    find: (tenant: string, id: string) =>
      Promise.resolve(tenant === key.tenant && id === key.id ? key : undefined),
  };
  return {
    clock,
    made: new Sessions({ hash: keyHash(secret), keys, apiKey, now: () => clock.now }),
  };
}

const ACME = { tenant: "acme", keyId: "key_1", scopes: new Set(["infer"] as const) };

Deno.test("a token that was changed, is of another secret, or has had its time is worth nothing", async () => {
  const { made, clock } = sessions({});
  const token = made.open(ACME);
  assertEquals(await made.principal(token), ACME);
  const [body = "", signature = ""] = token.split(".");
  const other = new TextEncoder().encode(
    JSON.stringify({ tenant: "globex", keyId: "key_1", until: 9e12 }),
  ).toBase64({ alphabet: "base64url", omitPadding: true });
  for (const forged of ["", ".", body, `${body}.`, `${other}.${signature}`, `${token}0`]) {
    assertEquals(await made.principal(forged), undefined, forged);
  }
  assertEquals(await sessions({ secret: "t".repeat(32) }).made.principal(token), undefined);
  clock.now += 13 * 60 * 60 * 1000;
  assertEquals(await made.principal(token), undefined);
});

Deno.test("a token of an expired key, or of another --api-key, is worth nothing", async () => {
  const token = sessions({}).made.open(ACME);
  const expired = sessions({ key: { ...KEY, expiresAt: 1_000_000 } });
  assertEquals(await expired.made.principal(token), undefined);
  const administrator = { tenant: "default", keyId: null, scopes: new Set(["admin"] as const) };
  const given = sessions({ apiKey: "first" }).made.open(administrator);
  assertNotEquals(await sessions({ apiKey: "first" }).made.principal(given), undefined);
  assertEquals(await sessions({ apiKey: "second" }).made.principal(given), undefined);
  assertEquals(await sessions({}).made.principal(given), undefined);
});

Deno.test("in open mode there is no door, and forms of other sites are refused all the same", async () => {
  await using keyed = await openKeyedApp({ open: true });
  const visitor = new Visitor(keyed.app);
  const { status, html } = await visitor.get("/console/tenants");
  assertEquals(status, 200);
  assert(!html.includes("Sign out"));
  assertEquals((await visitor.get("/console/sign-in")).location, "/console");
  const foreign = { origin: "http://evil.test", "sec-fetch-site": "cross-site" };
  assertEquals((await visitor.post("/console/tenants", { id: "evil" }, foreign)).status, 403);
  assertEquals((await visitor.post("/console/tenants", { id: "good" })).status, 303);
});
