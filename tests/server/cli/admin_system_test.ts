// deno-lint-ignore-file camelcase -- names of the wire format
/** The administrator's endpoints over a real store: tenants, keys, cores, usage, and who may ask. */
import { assert, assertEquals, assertLess, assertMatch, assertStringIncludes } from "@std/assert";
import { Core } from "../../../adapters/lotr/core.ts";
import { writeCore, writeFactors } from "../../../adapters/lotr/format.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { someCore } from "../engine_context.ts";
import { coreText, errorOf, type Json, type KeyedApp, openKeyedApp } from "../keyed_app.ts";

async function json(response: Response): Promise<Json> {
  assertEquals(response.status, 200, await response.clone().text());
  return await response.json();
}

/** As the administrator. */
function asAdmin({ ask, keys }: KeyedApp) {
  return async (method: string, path: string, body?: unknown): Promise<Json> =>
    await json(await ask(method, path, { key: keys.admin, json: body }));
}

const TENANTS = "/v1/admin/tenants";
const HELLO = { model: "tiny", prompt: "hello", max_tokens: 2 };

Deno.test("administration, over one store", async (t) => {
  await using served = await openKeyedApp();
  await t.step(
    "tenants are made, listed by page, changed and removed with their keys",
    () => manageTenants(served),
  );
  await t.step(
    "what cannot be a tenant is refused by the field at fault",
    () => refuseTenants(served),
  );
  await t.step(
    "a key is told once, works for its scopes, and is revoked within a second",
    () => manageKeys(served),
  );
  await t.step(
    "only an administrator's key administers, whatever else it is",
    () => refuseOthers(served),
  );
  await t.step(
    "an administrator acts for a tenant by a header, without administering then",
    () => actForTenants(served),
  );
  await t.step(
    "a core is put, published, rolled back, fetched and removed, and serves by name",
    () => manageCores(served),
  );
  await t.step(
    "a factor set is put while the server runs, its cores serve, and it goes when none is left",
    () => manageFactors(served),
  );
  await t.step(
    "a core that cannot be is refused by name",
    () => refuseCores(served),
  );
  await t.step(
    "usage adds up by tenant for administrators, and for a tenant its own",
    () => addUsageUp(served),
  );
  await t.step(
    "the first start prints an administrator's key, once and not into the log",
    () => firstKey(served),
  );
});

async function manageTenants(served: KeyedApp): Promise<void> {
  const admin = asAdmin(served);
  const limits = { requests_per_minute: 60, weight: 2 };
  const made = await admin("POST", TENANTS, { id: "initech", limits });
  assertEquals([made["id"], made["object"]], ["initech", "tenant"]);
  assertEquals(made["limits"], {
    requests_per_minute: 60,
    tokens_per_minute: null,
    concurrency: null,
    queued: null,
    stored_bytes: null,
    weight: 2,
    priority: 0,
  });
  const page = await admin("GET", `${TENANTS}?limit=2&order=asc`);
  const [first, second] = page["data"] as Json[];
  assertEquals([first?.["id"], second?.["id"], page["has_more"]], ["default", "acme", true]);
  const rest = await admin("GET", `${TENANTS}?order=asc&after=acme`);
  assertEquals((rest["data"] as Json[]).map(({ id }) => id), ["globex", "initech"]);
  const change = { limits: { requests_per_minute: null, queued: 5 } };
  await admin("POST", `${TENANTS}/initech`, change);
  const shown = await admin("GET", `${TENANTS}/initech`);
  assertEquals(shown["stored_bytes"], 0);
  const now = shown["limits"] as Json;
  assertEquals([now["requests_per_minute"], now["queued"], now["weight"]], [null, 5, 2]);
  const key = await served.issue("initech", ["infer"]);
  assertEquals((await served.ask("GET", "/v1/models", { key })).status, 200);
  assertEquals(await admin("DELETE", `${TENANTS}/initech`), {
    id: "initech",
    object: "tenant",
    deleted: true,
  });
  assertEquals(
    (await served.ask("GET", `${TENANTS}/initech`, { key: served.keys.admin })).status,
    404,
  );
  await refusedWithin(served, key, 401);
}

/** A key stops being good within a second. */
async function refusedWithin({ ask }: KeyedApp, key: string, status: number): Promise<void> {
  const start = performance.now();
  while (true) {
    const answer = await ask("GET", "/v1/models", { key });
    await answer.body?.cancel();
    if (answer.status === status) return;
    assertLess(performance.now() - start, 1000, `still ${answer.status} after a second`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function refuseTenants(served: KeyedApp): Promise<void> {
  const cases: readonly [string, string, unknown, number, string][] = [
    ["POST", TENANTS, { id: "acme" }, 409, "conflict"],
    ["POST", TENANTS, { id: "a/b" }, 400, "invalid_value"],
    ["POST", TENANTS, { id: "" }, 400, "invalid_value"],
    ["POST", TENANTS, { id: "x", limits: { weight: 0 } }, 400, "number_below_min_value"],
    ["POST", TENANTS, { id: "x", limits: { requests_per_minute: 1.5 } }, 400, "invalid_type"],
    ["POST", TENANTS, { id: "x", limits: { speed: 1 } }, 400, "unknown_parameter"],
    ["POST", `${TENANTS}/nobody`, { limits: {} }, 404, "tenant_not_found"],
    ["DELETE", `${TENANTS}/nobody`, undefined, 404, "tenant_not_found"],
    ["DELETE", `${TENANTS}/default`, undefined, 400, "default_tenant"],
    ["GET", `${TENANTS}?after=nobody`, undefined, 400, "invalid_value"],
    ["POST", `${TENANTS}/nobody/keys`, {}, 404, "tenant_not_found"],
    ["POST", `${TENANTS}/acme/keys`, { scopes: [] }, 400, "array_below_min_length"],
    ["POST", `${TENANTS}/acme/keys`, { scopes: ["root"] }, 400, "invalid_value"],
    ["POST", `${TENANTS}/acme/keys`, { expires_at: 1 }, 400, "invalid_value"],
    ["POST", `${TENANTS}/acme/keys`, { name: "a\u0000b" }, 400, "invalid_value"],
    ["GET", `${TENANTS}/acme/keys/key_x`, undefined, 404, "key_not_found"],
  ];
  for (const [method, path, body, status, code] of cases) {
    const error = await errorOf(
      await served.ask(method, path, { key: served.keys.admin, json: body }),
    );
    assertEquals([error.status, error.code], [status, code], `${method} ${path} ${error.message}`);
  }
}

async function manageKeys(served: KeyedApp): Promise<void> {
  const admin = asAdmin(served);
  const keys = `${TENANTS}/acme/keys`;
  const answer = await served.ask("POST", keys, {
    key: served.keys.admin,
    json: { name: "ci", scopes: ["infer", "infer"] },
  });
  assertEquals(answer.headers.get("cache-control"), "no-store");
  const { key: text, id, hint, scopes } = await answer.json();
  assertEquals([scopes, hint], [["infer"], text.slice(0, 10)]);
  const listed = await admin("GET", keys);
  assert(!JSON.stringify(listed).includes(text));
  assertEquals((listed["data"] as Json[])[0]?.["id"], id);
  const done = await served.ask("POST", "/v1/completions", { key: text, json: HELLO });
  assertEquals(done.status, 200);
  const denied = await errorOf(await served.ask("GET", "/v1/fine_tuning/jobs", { key: text }));
  assertEquals([denied.status, denied.code], [403, "insufficient_scope"]);
  assertStringIncludes(denied.message, "[infer]; it needs 'train'");
  const revoked = await admin("DELETE", `${keys}/${id}`);
  assertEquals(typeof revoked["revoked_at"], "number");
  await refusedWithin(served, text, 401);
  const refused = await errorOf(await served.ask("GET", "/v1/models", { key: text }));
  assertEquals(refused.code, "revoked_api_key");
  assertEquals(await admin("DELETE", `${keys}/${id}`), revoked);
}

async function refuseOthers(served: KeyedApp): Promise<void> {
  const paths = Object.keys((await describe(served))["paths"] as Json)
    .filter((path) => path.startsWith("/v1/admin/"));
  assert(paths.length >= 8, paths.join(" "));
  for (const path of paths) {
    for (const method of ["GET", "POST", "DELETE"]) {
      const at = path.replaceAll(/\{\w+\}/g, "acme");
      const answer = await served.ask(method, at, { key: served.keys.acme });
      assert([403, 405].includes(answer.status), `${method} ${at}: ${answer.status}`);
    }
  }
}

async function describe({ ask, keys }: KeyedApp): Promise<Json> {
  return await json(await ask("GET", "/openapi.json", { key: keys.admin }));
}

async function actForTenants(served: KeyedApp): Promise<void> {
  const as = (tenant: string) => ({ key: served.keys.admin, headers: { "lembas-tenant": tenant } });
  assertEquals((await served.ask("GET", "/v1/files", as("acme"))).status, 200);
  assertEquals((await served.ask("GET", TENANTS, as("acme"))).status, 403);
  const nobody = await errorOf(await served.ask("GET", "/v1/files", as("nobody")));
  assertEquals([nobody.status, nobody.code], [404, "tenant_not_found"]);
}

async function manageCores(served: KeyedApp): Promise<void> {
  const { ask, keys, loaded } = served;
  await served.store.factors.add(loaded.factors.digest, writeFactors(loaded.factors));
  const acme = async (method: string, path: string, body?: unknown) =>
    await json(await ask(method, `/v1/cores${path}`, { key: keys.acme, json: body }));
  const one = await acme("POST", "/shelf", { cores: coreText(loaded, 1) });
  assertEquals([one["id"], one["current"], one["state"]], ["acme/shelf@1", true, "stored"]);
  const again = await acme("POST", "/shelf", { cores: coreText(loaded, 1) });
  assertEquals(again["version"], 1);
  const two = await acme("POST", "/shelf", { cores: coreText(loaded, 2), publish: "later" });
  assertEquals([two["version"], two["current"]], [2, false]);
  assertEquals((await acme("POST", "/shelf/publish", { version: 2 }))["current"], true);
  const versions = await acme("GET", "/shelf");
  assertEquals((versions["data"] as Json[]).map(({ version, current }) => [version, current]), [
    [2, true],
    [1, false],
  ]);
  assertEquals((await acme("POST", "/shelf/rollback"))["version"], 1);
  const answer = await ask("POST", "/v1/completions", {
    key: keys.acme,
    json: { ...HELLO, model: "shelf" },
  });
  assertMatch((await json(answer))["system_fingerprint"] as string, fingerprint(one));
  const content = await ask("GET", "/v1/cores/shelf/versions/2/content", { key: keys.acme });
  assertEquals(new Uint8Array(await content.arrayBuffer()).toBase64(), coreText(loaded, 2));
  const all = await json(await ask("GET", "/v1/admin/cores", { key: keys.admin }));
  assertEquals((all["data"] as Json[]).map(({ id }) => id), ["acme/shelf@1"]);
  assertEquals((await acme("DELETE", "/shelf/versions/2"))["deleted"], 1);
  assertEquals((await acme("DELETE", "/shelf"))["deleted"], 1);
  assertEquals((await acme("GET", ""))["data"], []);
}

async function manageFactors(served: KeyedApp): Promise<void> {
  const { ask, keys, loaded } = served;
  const stack = loaded.registry.stack;
  const set = randomFactors({ stack, rank: 2, modules: ["q_proj"], seed: 7 });
  const put = (bytes: Uint8Array, key = keys.admin) => {
    const body = new FormData();
    body.append("file", new Blob([bytes as Uint8Array<ArrayBuffer>]), "set.safetensors");
    return ask("POST", "/v1/admin/factors", { key, body });
  };
  const core = { cores: writeCore(someCore(set, 3)).toBase64() };
  const store = (key = keys.acme) => ask("POST", "/v1/cores/added", { key, json: core });
  const early = await errorOf(await store());
  assertEquals([early.status, early.code], [400, "unknown_factors"]);
  assertStringIncludes(early.message, "deno task admin factors put FILE");

  const file = writeFactors(set);
  assertEquals((await errorOf(await put(file, keys.acme))).status, 403);
  const made = await json(await put(file));
  assertEquals([made["object"], made["digest"], made["bytes"]], [
    "factor_set",
    set.digest,
    file.length,
  ]);
  assertEquals(await json(await put(file)), made, "the same set again changes nothing");
  assertEquals((await json(await store()))["current"], true);
  const answer = await ask("POST", "/v1/completions", {
    key: keys.acme,
    json: { ...HELLO, model: "added" },
  });
  assertEquals(answer.status, 200, await answer.text());

  const one = `/v1/admin/factors/${set.digest}`;
  const used = await errorOf(await ask("DELETE", one, { key: keys.admin }));
  assertEquals([used.status, used.code], [409, "conflict"]);
  assertStringIncludes(used.message, "core acme/added@1 needs it");
  await json(await ask("DELETE", "/v1/cores/added", { key: keys.acme }));
  assertEquals((await json(await ask("DELETE", one, { key: keys.admin })))["deleted"], true);
  const gone = await errorOf(await ask("DELETE", one, { key: keys.admin }));
  assertEquals([gone.status, gone.code], [404, "factor_set_not_found"]);
  assertEquals((await errorOf(await store())).code, "unknown_factors");
  await json(await put(file));
  assertEquals((await json(await store()))["current"], true, "what was removed comes back");
  await json(await ask("DELETE", "/v1/cores/added", { key: keys.acme }));

  const foreign = randomFactors({ stack: { ...stack, base: "f".repeat(64) }, rank: 2, seed: 7 });
  const wrong: readonly [Uint8Array, RegExp][] = [
    [writeFactors(foreign), /its base is f{64}, served is/],
    [file.subarray(0, file.length - 8), /Invalid 'file'/],
    [new TextEncoder().encode("no set"), /Invalid 'file'/],
    [writeCore(someCore(set, 1)), /Invalid 'file'/],
  ];
  for (const [bytes, message] of wrong) {
    const refused = await errorOf(await put(bytes));
    assertEquals([refused.status, refused.code], [400, "invalid_factors"], refused.message);
    assertMatch(refused.message, message);
  }
  const none = await errorOf(
    await ask("POST", "/v1/admin/factors", { key: keys.admin, body: new FormData() }),
  );
  assertEquals(none.status, 400, none.message);
  await json(await ask("DELETE", one, { key: keys.admin }));
}

function fingerprint({ digest }: Json): RegExp {
  return new RegExp(`_${String(digest).slice(0, 10)}$`);
}

async function refuseCores(served: KeyedApp): Promise<void> {
  const put = async (path: string, body: unknown) =>
    await errorOf(await served.ask("POST", path, { key: served.keys.acme, json: body }));
  const text = coreText(served.loaded, 1);
  const core = someCore(served.loaded.factors, 1);
  const foreign = writeCore(new Core({ ...core, factors: "f".repeat(64) })).toBase64();
  const cases: readonly [string, unknown, number, string][] = [
    ["/v1/cores/x", { cores: "!" }, 400, "invalid_core"],
    ["/v1/cores/x", { cores: btoa("no core") }, 400, "invalid_core"],
    ["/v1/cores/x", { cores: text.slice(0, -40) }, 400, "invalid_core"],
    ["/v1/cores/x", { cores: text, publish: "soon" }, 400, "invalid_value"],
    ["/v1/cores/x", { cores: foreign }, 400, "unknown_factors"],
    ["/v1/cores/-x", { cores: text }, 400, "invalid_value"],
    ["/v1/cores/x/publish", { version: 1 }, 404, "core_not_found"],
    ["/v1/cores/x/rollback", undefined, 404, "core_not_found"],
  ];
  for (const [path, body, status, code] of cases) {
    const error = await put(path, body);
    assertEquals([error.status, error.code], [status, code], `${path} ${error.message}`);
  }
}

async function addUsageUp(served: KeyedApp): Promise<void> {
  const record = (id: string, tenant: string, promptTokens: number) => ({
    ...{ id, tenant, promptTokens, at: Date.UTC(2026, 0, 31), keyId: null, model: "tiny" },
    ...{ kind: "chat" as const, cachedTokens: 1, completionTokens: 2, trainedTokens: 0 },
    requestId: id,
  });
  await served.store.usage.add([record("1", "acme", 10), record("2", "globex", 20)]);
  const all = await asAdmin(served)("GET", "/v1/admin/usage");
  assertEquals(
    (all["data"] as Json[]).map(({ key, prompt_tokens }) => [key, prompt_tokens]),
    [["acme", 10], ["globex", 20]],
  );
  const own = await json(await served.ask("GET", "/v1/usage", { key: served.keys.acme }));
  assertEquals(own["data"], [{
    object: "usage.total",
    key: "2026-01-31",
    requests: 1,
    prompt_tokens: 10,
    cached_tokens: 1,
    completion_tokens: 2,
    trained_tokens: 0,
  }]);
  const later = await served.ask("GET", "/v1/usage?from=1800000000", { key: served.keys.acme });
  assertEquals((await json(later))["data"], []);
}

async function firstKey(served: KeyedApp): Promise<void> {
  const [, key = ""] = /(lmb_\w+)/.exec(served.printed.join("\n")) ?? [];
  assertEquals(served.printed.length, 1);
  assertEquals((await served.ask("GET", TENANTS, { key })).status, 200);
  assert(!served.lines.join("\n").includes(key.slice(10)));
}

Deno.test("open mode is said loudly and needs no key; a key of the command line is an administrator's", async () => {
  await using open = await openKeyedApp({ open: true });
  assertEquals((await open.ask("GET", TENANTS)).status, 200);
  assertMatch(open.lines.join("\n"), /warn {2}OPEN MODE: .*127\.0\.0\.1/);
  assertEquals(open.printed, []);
  const headers = { "lembas-tenant": "newcomer" };
  assertEquals((await open.ask("GET", "/v1/files", { headers })).status, 200);
  await using keyed = await openKeyedApp({ apiKey: "s3cret" });
  assertEquals((await keyed.ask("GET", TENANTS)).status, 401);
  assertEquals((await keyed.ask("GET", TENANTS, { key: "s3cret" })).status, 200);
  assertEquals((await keyed.ask("GET", "/v1/models", { key: keyed.keys.acme })).status, 200);
  assertEquals(keyed.printed, []);
});
