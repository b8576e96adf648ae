// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Tenants kept apart: acme reaches for everything that globex has, through every endpoint, with
 * guessed ids, odd paths and headers. Real store, engine, trainer and keys; only the weights are
 * missing.
 */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { ATTEMPTS } from "./isolation_attempts.ts";
import { type RawRequest, rawRequest } from "./isolation_raw.ts";
import { CORE, makeVictim, MARKER, upload, VICTIM, type Victim } from "./isolation_victim.ts";
import { coreText, errorOf, type Json, type KeyedApp, openKeyedApp } from "./keyed_app.ts";
import { listen } from "../../server/serve.ts";

Deno.test("tenants are kept apart", async (t) => {
  await using served = await openKeyedApp();
  const victim = await makeVictim(served);
  const step = (name: string, run: (served: KeyedApp, victim: Victim) => Promise<void>) =>
    t.step(name, () => run(served, victim));
  await step("every endpoint answers another tenant as if there were nothing", tryEverything);
  await step("what another tenant has and what nobody has get the same answer", compareAnswers);
  await step("guessed ids find nothing", guessIds);
  await step("odd paths find nothing", tryPaths);
  await step("headers make nobody another tenant", tryHeaders);
  await step("one tenant's names are free for another, and stay apart", sameNames);
  await step("a prompt of one tenant is no cached prefix of another", comparePrefixes);
  await step("without a good key there is nothing but probes", withoutKeys);
  await step("a key's scopes hold on every endpoint", tryScopes);
  await step("a key has the files of what it may do", tryPurposes);
  await step("nothing of the victim was changed by all that", nothingChanged);
  await step("no key, prompt or row is in the log, and each line of a request has its id", readLog);
});

async function operationsOf({ ask, keys }: KeyedApp): Promise<Map<string, Json>> {
  const document = await (await ask("GET", "/openapi.json", { key: keys.admin })).json();
  return new Map(
    Object.entries<Record<string, Json>>(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) =>
        [`${method.toUpperCase()} ${path}`, operation] as const
      )
    ),
  );
}

function assertSilent(text: string, victim: Victim, sent: string, where: string): void {
  for (const secret of victim.secrets) {
    // what the caller has said may come back in an error's words
    if (sent.includes(secret)) continue;
    assert(!text.includes(secret), `${where} says '${secret}': ${text.slice(0, 500)}`);
  }
}

async function tryEverything(served: KeyedApp, victim: Victim): Promise<void> {
  const operations = await operationsOf(served);
  assertEquals([...operations.keys()].filter((name) => !(name in ATTEMPTS)), []);
  const own = await upload(served, served.keys.acme, "rye");
  for (const [name, attempts] of Object.entries(ATTEMPTS)) {
    const [method = ""] = name.split(" ");
    for (const { path, json, expected } of attempts(victim)) {
      const sent = JSON.stringify(json ?? null).replace("FILE", own);
      const asked = json === undefined ? {} : { json: JSON.parse(sent) };
      const response = await served.ask(method, path, { key: served.keys.acme, ...asked });
      const text = await response.text();
      assert(expected.includes(response.status), `${method} ${path} ${sent}: ${text}`);
      assertSilent(text, victim, `${path}${decodeURIComponent(path)}${sent}`, `${method} ${path}`);
    }
  }
}

async function compareAnswers({ ask, keys }: KeyedApp, victim: Victim): Promise<void> {
  const other = (id: string) => id.slice(0, -6) + (id.endsWith("aaaaaa") ? "bbbbbb" : "aaaaaa");
  const paths: readonly [string, string][] = [
    [`/v1/files/${victim.file}`, victim.file],
    [`/v1/files/${victim.file}/content`, victim.file],
    [`/v1/batches/${victim.batch}`, victim.batch],
    [`/v1/fine_tuning/jobs/${victim.job}`, victim.job],
    [`/v1/fine_tuning/jobs/${victim.job}/events`, victim.job],
    [`/v1/models/${VICTIM}/${CORE}`, CORE],
    [`/v1/models/${victim.model}`, victim.model],
    [`/v1/models/${victim.checkpoint}`, victim.checkpoint],
    [`/v1/cores/${CORE}`, CORE],
    [`/v1/responses/${victim.response}`, victim.response],
    [`/v1/responses/${victim.response}/input_items`, victim.response],
    [`/v1/chat/completions/${victim.chat}`, victim.chat],
    [`/v1/chat/completions/${victim.chat}/messages`, victim.chat],
  ];
  for (const [path, id] of paths) {
    const [there, nowhere] = await Promise.all([path, path.replace(id, other(id))].map(
      async (path) => {
        const response = await ask("GET", path, { key: keys.acme });
        return `${response.status} ${await response.text()}`;
      },
    ));
    assertEquals(there?.replaceAll(id, "ID"), nowhere?.replaceAll(other(id), "ID"), path);
  }
}

async function guessIds({ ask, keys }: KeyedApp, victim: Victim): Promise<void> {
  const { file, job, batch, response, chat } = victim;
  const guesses = (id: string) =>
    [
      ...[id.toUpperCase(), id.toLowerCase(), `${id} `, ` ${id}`, id.slice(0, -1), `${id}0`],
      ...["%", "_", "*", ".", "-1", "0", "null", "undefined", "true", "[object Object]", "$ne"],
      ...[
        "' OR '1'='1",
        `${id}'--`,
        `${id}\u0000`,
        `${id}\n`,
        "\u0000",
        "\ud83d\ude00",
        "..",
        "../..",
      ],
      `${id},${id}`,
      "a".repeat(5000),
    ].filter((guess) => guess !== id);
  const places = [
    ["/v1/files/", file],
    ["/v1/fine_tuning/jobs/", job],
    ["/v1/batches/", batch],
    ["/v1/responses/", response],
    ["/v1/chat/completions/", chat],
  ] as const;
  for (const [path, id] of places) {
    for (const guess of guesses(id)) {
      const at = `${path}${encodeURIComponent(guess)}`;
      const response = await ask("GET", at, { key: keys.acme });
      const text = await response.text();
      const tries = guess === "." || guess === ".." || guess === "../..";
      const gone = response.status === 404 || response.status === 400;
      // a dot is the list, or what can only be posted
      const level = response.ok || response.status === 405;
      assert(gone || tries && level, `${at}: ${response.status} ${text}`);
      assertSilent(text, victim, at, at);
    }
  }
}

async function tryPaths(served: KeyedApp, victim: Victim): Promise<void> {
  const { keys } = served;
  const paths = [
    `//v1/files/${victim.file}`,
    `/v1//files/${victim.file}`,
    `/V1/FILES/${victim.file}`,
    `/v1/files/${victim.file}/`,
    `/v1/files/${victim.file};x=1`,
    `/v1/files/x/../${victim.file}`,
    `/v1/files/%2e%2e/files/${victim.file}`,
    `/v1/files/..%2ffiles%2f${victim.file}`,
    `/v1/files/${victim.file}%00`,
    `/v1/files/${victim.file}%2fcontent`,
    `/v1/files/%25${victim.file}`,
    `/v1/files/%zz`,
    `/v1/files/%c0%af`,
    `/health/../v1/files/${victim.file}`,
    `/console/../v1/admin/tenants`,
    `/console/%2e%2e/v1/admin/tenants`,
    `/health;/../v1/admin/tenants`,
    `/health%2f..%2fv1%2fadmin%2ftenants`,
    `/v1/admin/tenants?tenant=acme`,
    `/v1/models/acme/../${VICTIM}/${CORE}`,
    `/v1/models/acme%2f..%2f${VICTIM}%2f${CORE}`,
    `/v1/models/${VICTIM}%252f${CORE}`,
    `/v1/models/%67lobex/${CORE}`,
    `/v1/cores/..%2f${VICTIM}%2f${CORE}`,
    `http://localhost/v1/files/${victim.file}`,
    `*`,
  ];
  await listening(served, async (send) => {
    for (const path of paths) {
      const raw = await send({ path, key: keys.acme });
      assert(raw.status >= 400 && raw.status < 500, `${path}: ${raw.text}`);
      // an error repeats what was asked for, as it was understood
      assertSilent(raw.text, victim, path.replace("%67", "g"), path);
      const open = await send({ path });
      assert([400, 401, 404].includes(open.status), `${path} without a key: ${open.text}`);
    }
  });
}

async function listening(
  { app, context }: KeyedApp,
  body: (send: (request: RawRequest) => ReturnType<typeof rawRequest>) => Promise<void>,
): Promise<void> {
  const server = await listen(
    { host: "127.0.0.1", port: 0, fetch: app.fetch },
    {
      ...context.lifecycle,
      drain: () => Promise.resolve(),
    } as typeof context.lifecycle,
  );
  try {
    await body((request) => rawRequest(server.url, request));
  } finally {
    await server.stop(1, () => Promise.resolve());
  }
}

async function tryHeaders(served: KeyedApp, victim: Victim): Promise<void> {
  const { keys } = served;
  const mine = `authorization: Bearer ${keys.acme}`;
  const lists: readonly (readonly string[])[] = [
    [mine, `lembas-tenant: ${VICTIM}`],
    [mine, `Lembas-Tenant: ${VICTIM}`],
    [mine, "lembas-tenant: acme", `lembas-tenant: ${VICTIM}`],
    [mine, `lembas-tenant: acme,${VICTIM}`],
    [mine, `lembas-tenant:  ${VICTIM} `],
    [mine, "lembas-tenant: "],
    [mine, "lembas-tenant: default"],
    [mine, `openai-organization: ${VICTIM}`, `openai-project: ${VICTIM}`],
    [mine, `x-tenant: ${VICTIM}`, `x-tenant-id: ${VICTIM}`, `tenant: ${VICTIM}`],
    [mine, "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1"],
    [mine, `x-original-url: /v1/admin/tenants`, `x-rewrite-url: /v1/admin/tenants`],
    [mine, "x-http-method-override: DELETE", "x-method-override: DELETE"],
    [mine, `authorization: Bearer ${keys.globex}`],
    [`authorization: Bearer ${keys.acme}, Bearer ${keys.globex}`],
    [`authorization: Bearer ${keys.acme} ${keys.globex}`],
    [`authorization: Basic ${btoa(`globex:${keys.globex}`)}`],
    [`authorization: ${keys.globex}`],
    [mine, `x-api-key: ${keys.globex}`],
    [`x-api-key: ${keys.acme}`, `x-api-key: ${keys.globex}`],
    [`x-api-key: ${keys.acme} ${keys.globex}`],
    [`x-api-key: Bearer ${keys.globex}`],
    [`x-api-key: ${keys.acme}`, `lembas-tenant: ${VICTIM}`],
    [`api-key: ${keys.globex}`],
    [`cookie: key=${keys.globex}; session=${keys.globex}; lembas=${keys.globex}`],
  ];
  await listening(served, async (send) => {
    for (const headers of lists) {
      for (const path of [`/v1/files/${victim.file}`, "/v1/admin/tenants"]) {
        const { status, text } = await send({ path, headers });
        const where = `${path} with ${headers.join(" | ")}`;
        assert([401, 403, 404].includes(status), `${where}: ${status} ${text}`);
        assertSilent(text, victim, `${path}${headers.join()}`, where);
      }
    }
    const query = await send({ path: `/v1/files/${victim.file}?api_key=${keys.globex}` });
    assertEquals(query.status, 401);
  });
}

async function sameNames(served: KeyedApp, victim: Victim): Promise<void> {
  const { ask, keys, loaded } = served;
  const put = await ask("POST", `/v1/cores/${CORE}`, {
    key: keys.acme,
    json: { cores: coreText(loaded, 7) },
  });
  assertEquals((await put.json())["id"], `acme/${CORE}@1`);
  const fingerprint = async (key: string, model: string) => {
    const json = { model, prompt: "hello", max_tokens: 1 };
    return (await (await ask("POST", "/v1/completions", { key, json })).json()).system_fingerprint;
  };
  const [own, others] = await Promise.all([
    fingerprint(keys.acme, CORE),
    fingerprint(keys.globex, CORE),
  ]);
  assert(own !== undefined && own !== others);
  assertEquals(await fingerprint(keys.admin, `${VICTIM}/${CORE}`), others);
  const rolled = await ask("DELETE", `/v1/cores/${CORE}`, { key: keys.acme });
  assertEquals(rolled.status, 200);
  assertEquals(await fingerprint(keys.globex, CORE), others);
  const same = await ask("POST", "/v1/cores/copy", {
    key: keys.acme,
    json: { cores: coreText(loaded, 5) },
  });
  const text = await same.text();
  assertStringIncludes(text, victim.digest);
  assert(!text.includes(VICTIM));
  await ask("DELETE", "/v1/cores/copy", { key: keys.acme });
}

async function comparePrefixes({ ask, keys }: KeyedApp): Promise<void> {
  const prompt = `${MARKER} `.repeat(6);
  const cached = async (key: string) => {
    const json = { model: "tiny", prompt, max_tokens: 1 };
    const { usage } = await (await ask("POST", "/v1/completions", { key, json })).json();
    return usage.prompt_tokens_details.cached_tokens;
  };
  assertEquals(await cached(keys.globex), 0);
  assertGreater(await cached(keys.globex), 0);
  assertEquals(await cached(keys.acme), 0);
  assertGreater(await cached(keys.acme), 0);
}

async function withoutKeys(served: KeyedApp): Promise<void> {
  for (const [name, operation] of await operationsOf(served)) {
    const [method = "", path = ""] = name.split(" ");
    const open = (operation["security"] as unknown[]).length === 0;
    for (const key of [undefined, "lmb_", "lmb_" + "a".repeat(49), "null", "sk-x"]) {
      const response = await served.ask(method, path.replaceAll(/\{\w+\}/g, "x"), { key });
      await response.body?.cancel();
      if (open) assert(response.status !== 401, name);
      else assertEquals(response.status, 401, `${name} with key ${key}`);
    }
  }
}

const TRAINING = /^\w+ \/v1\/(fine_tuning|cores)/;
const BOTH = /^\w+ \/(v1\/models|v1\/usage|v1\/files|v1\/uploads|version)/;

async function tryScopes(served: KeyedApp): Promise<void> {
  const infer = await served.issue("acme", ["infer"]);
  const train = await served.issue("acme", ["train"]);
  for (const [name, operation] of await operationsOf(served)) {
    if ((operation["security"] as unknown[]).length === 0) continue;
    const [method = "", path = ""] = name.split(" ");
    const admin = name.includes("/v1/admin/") ||
      /lora_adapter|\/adapters|metrics|\/load$|server_info|\/slots$/.test(name);
    const training = TRAINING.test(name) || name === "DELETE /v1/models/{model}";
    const both = BOTH.test(name) && !training;
    for (const [key, denied] of [[infer, training], [train, !training && !both]] as const) {
      const response = await served.ask(method, path.replaceAll(/\{\w+\}/g, "x"), { key });
      await response.body?.cancel();
      assertEquals(response.status === 403, admin || denied, `${name}: ${response.status}`);
    }
  }
}

async function tryPurposes(served: KeyedApp): Promise<void> {
  const { ask, issue } = served;
  const keys = { infer: await issue("acme", ["infer"]), train: await issue("acme", ["train"]) };
  const form = (purpose: string) => {
    const body = new FormData();
    body.set("purpose", purpose);
    body.set("file", new File(["{}"], "a.jsonl"));
    return body;
  };
  const made: Record<string, string> = {};
  for (const [scope, purpose] of [["infer", "batch"], ["train", "fine-tune"]] as const) {
    const body = () => ({ body: form(purpose) });
    const response = await ask("POST", "/v1/files", { key: keys[scope], ...body() });
    made[scope] = String((await response.json())["id"]);
    const other = scope === "infer" ? keys.train : keys.infer;
    const denied = [
      await ask("POST", "/v1/files", { key: other, ...body() }),
      await ask("GET", `/v1/files/${made[scope]}`, { key: other }),
      await ask("GET", `/v1/files/${made[scope]}/content`, { key: other }),
      await ask("DELETE", `/v1/files/${made[scope]}`, { key: other }),
      await ask("POST", "/v1/uploads", {
        key: other,
        json: { filename: "a", bytes: 1, mime_type: "text/plain", purpose },
      }),
    ];
    for (const one of denied) assertEquals((await errorOf(one)).code, "insufficient_scope");
  }
  for (const scope of ["infer", "train"] as const) {
    const { data } = await (await ask("GET", "/v1/files", { key: keys[scope] })).json();
    const ids = (data as Json[]).map(({ id }) => id);
    assert(ids.includes(made[scope]));
    assert(!ids.includes(made[scope === "infer" ? "train" : "infer"]));
  }
}

async function nothingChanged({ ask, keys }: KeyedApp, victim: Victim): Promise<void> {
  const get = async (path: string) =>
    await (await ask("GET", path, { key: keys.globex })).json() as Json;
  assertEquals((await get(`/v1/files/${victim.file}`))["id"], victim.file);
  assertEquals((await get(`/v1/fine_tuning/jobs/${victim.job}`))["status"], "succeeded");
  assertEquals((await get(`/v1/responses/${victim.response}`))["id"], victim.response);
  assertEquals((await get(`/v1/chat/completions/${victim.chat}`))["metadata"], { word: MARKER });
  const versions = (await get(`/v1/cores/${CORE}`))["data"] as Json[];
  assertEquals(versions.map(({ version, current }) => [version, current]), [[2, true], [1, false]]);
  assertEquals((await get(`/v1/models/${victim.model}`))["id"], victim.model);
  const refused = await errorOf(await ask("GET", "/v1/admin/tenants", { key: keys.globex }));
  assertEquals(refused.code, "insufficient_scope");
}

function readLog({ lines, keys }: KeyedApp): Promise<void> {
  const log = lines.join("\n");
  assertGreater(lines.length, 500);
  for (const key of Object.values(keys)) assert(!log.includes(key.slice(10)));
  for (const line of lines.filter((line) => / (GET|POST|DELETE) \//.test(line))) {
    assert(/ id=\S+/.test(line), line);
  }
  assert(!log.includes(MARKER), "the log has a prompt or a row in it");
  return Promise.resolve();
}
