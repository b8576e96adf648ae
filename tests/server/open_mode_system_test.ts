// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Tenants of an open server: whoever names one has it, by whatever road, and stays the administrator;
 * asking around makes none. With keys a tenant that is not there is refused by the field that names it.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeCore, writeFactors } from "../../adapters/lotr/format.ts";
import { runAdmin } from "../../server/cli/admin/command.ts";
import { listen } from "../../server/serve.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { fakeLoad, someCore } from "./engine_context.ts";
import { coreText, errorOf, type Json, type KeyedApp, openKeyedApp } from "./keyed_app.ts";
import { ServerProcess } from "./server_process.ts";
import { ROWS } from "./tuning_server.ts";

const TENANTS = "/v1/admin/tenants";

/** A directory of adapters: `shelf`, and `sub/held` of a tenant of its own. */
async function newAdapters(): Promise<string> {
  const directory = await Deno.makeTempDir();
  const loaded = await fakeLoad();
  await Deno.mkdir(`${directory}/sub`);
  await Deno.writeFile(`${directory}/factors.safetensors`, writeFactors(loaded.factors));
  for (const [seed, path] of ["shelf", "sub/held"].entries()) {
    const core = writeCore(someCore(loaded.factors, seed));
    await Deno.writeFile(`${directory}/${path}.safetensors`, core);
  }
  await loaded.close();
  return directory;
}

async function withServed(
  options: { readonly open: boolean },
  body: (served: KeyedApp, directory: string) => Promise<void>,
): Promise<void> {
  const directory = await newAdapters();
  try {
    await using served = await openKeyedApp({ ...options, directory, metered: true });
    await body(served, directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const as = (tenant: string) => ({ headers: { "lembas-tenant": tenant } });

/** Has to be answered 200; the answer's text. */
async function ok(answer: Promise<Response>): Promise<string> {
  const response = await answer;
  const text = await response.text();
  assertEquals(response.status, 200, text);
  return text;
}

async function tenantsOf({ store }: KeyedApp): Promise<readonly string[]> {
  const page = await store.tenants.list({ after: undefined, limit: 100, order: "asc" });
  return page.items.map(({ id }) => id);
}

function upload(): FormData {
  const form = new FormData();
  form.set("purpose", "fine-tune");
  form.set("file", new Blob([ROWS]), "rows.jsonl");
  return form;
}

Deno.test("in open mode a tenant is there as soon as something is kept or counted for it", () =>
  withServed({ open: true }, async (served) => {
    const { ask, loaded } = served;
    const load = (lora_name: string) =>
      ask("POST", "/v1/load_lora_adapter", { json: { lora_name, lora_path: "shelf.safetensors" } });
    const hello = { model: "tiny", prompt: "hello", max_tokens: 2 };
    const roads: Readonly<Record<string, () => Promise<Response>>> = {
      "name-of-adapter": () => load("name-of-adapter/shelf"),
      sub: () => load("sub/x"),
      header: () => ask("POST", "/v1/completions", { json: hello, ...as("header") }),
      core: () =>
        ask("POST", "/v1/cores/x", { json: { cores: coreText(loaded, 1) }, ...as("core") }),
      file: () => ask("POST", "/v1/files", { body: upload(), ...as("file") }),
      limits: () => ask("POST", `${TENANTS}/limits`, { json: { limits: { weight: 2 } } }),
      key: () => ask("POST", `${TENANTS}/key/keys`, { json: { name: "till" } }),
    };
    for (const [tenant, road] of Object.entries(roads)) {
      assert(!(await tenantsOf(served)).includes(tenant), tenant);
      await ok(road());
      assert((await tenantsOf(served)).includes(tenant), tenant);
    }
    const answer = await ok(ask("POST", "/v1/completions", { json: { ...hello, model: "sub/x" } }));
    assertMatch(answer, /"model":"sub\/x"/);
  }));

Deno.test("a tenant that was removed in open mode is there again when it is named", () =>
  withServed({ open: true }, async (served) => {
    const { ask } = served;
    const json = { model: "tiny", prompt: "hello", max_tokens: 2 };
    for (let turn = 0; turn < 2; turn++) {
      await ok(ask("POST", "/v1/completions", { json, ...as("again") }));
      assert((await tenantsOf(served)).includes("again"));
      await ok(ask("DELETE", `${TENANTS}/again`));
    }
  }));

Deno.test("reading makes no tenant, and is answered as for one that has nothing", () =>
  withServed({ open: true }, async (served) => {
    const before = await tenantsOf(served);
    const reads = ["/v1/models", "/v1/files", "/v1/fine_tuning/jobs", "/v1/cores", "/v1/usage"];
    for (const [index, path] of reads.entries()) {
      await ok(served.ask("GET", path, as(`reader${index}`)));
    }
    await ok(served.ask("POST", "/tokenize", { json: { prompt: "hello" }, ...as("reader") }));
    const wrong = { json: { lora_name: "reader/x", lora_path: "none.safetensors" } };
    assertEquals((await served.ask("POST", "/v1/load_lora_adapter", wrong)).status, 404);
    const unknown = { json: { model: "reader/x", prompt: "hello" } };
    assertEquals((await served.ask("POST", "/v1/completions", unknown)).status, 404);
    assertEquals(await tenantsOf(served), before);
  }));

Deno.test("in open mode the header says for whom, and takes no right away", () =>
  withServed({ open: true }, async ({ ask }) => {
    const json = { lora_name: "shelf", lora_path: "shelf.safetensors" };
    await ok(ask("POST", "/v1/load_lora_adapter", { json, ...as("acme") }));
    await ok(ask("GET", "/metrics", as("acme")));
    const cores = JSON.parse(await ok(ask("GET", "/v1/admin/cores", as("umbra"))));
    assertEquals(cores.data.map(({ id }: Json) => id), ["acme/shelf@1"]);
    const own = JSON.parse(await ok(ask("GET", "/v1/cores", as("acme"))));
    assertEquals(own.data.length, 1);
    assertEquals(JSON.parse(await ok(ask("GET", "/v1/cores", as("umbra")))).data, []);
    for (const wrong of ["-x", "a/b", "x".repeat(65), "a b"]) {
      const error = await errorOf(await ask("GET", "/v1/models", as(wrong)));
      assertEquals([error.status, error.code], [400, "invalid_value"], wrong);
      assertStringIncludes(error.message, "lembas-tenant");
    }
  }));

Deno.test("with keys a tenant that is not there is refused by the field that names it", () =>
  withServed({ open: false }, async (served) => {
    const { ask, keys } = served;
    const before = await tenantsOf(served);
    const key = keys.admin;
    const json = { lora_name: "ghost/shelf", lora_path: "shelf.safetensors" };
    const answer = await ask("POST", "/v1/load_lora_adapter", { key, json });
    const { error } = await answer.json();
    assertEquals([answer.status, error.param, error.code], [400, "lora_name", "tenant_not_found"]);
    assertStringIncludes(error.message, "POST /v1/admin/tenants");
    const header = await errorOf(await ask("POST", "/v1/completions", { key, ...as("ghost") }));
    assertEquals([header.status, header.code], [404, "tenant_not_found"]);
    assertStringIncludes(header.message, "POST /v1/admin/tenants");
    const made = await ask("POST", `${TENANTS}/ghost/keys`, { key, json: { name: "till" } });
    assertEquals(made.status, 404);
    assertEquals(await tenantsOf(served), before);
  }));

Deno.test("the tenants of the directory of adapters are there when an open server has started", async () => {
  const directory = await newAdapters();
  const script = new URL("./serve_child.ts", import.meta.url);
  const child = new ServerProcess(script, { args: ["--port", "0", "--adapters", directory] });
  try {
    const url = await child.url();
    const { data } = await (await fetch(`${url}${TENANTS}`)).json();
    assertEquals(data.map(({ id }: Json) => id).toSorted(), ["default", "sub"]);
  } finally {
    child.kill("SIGTERM");
    await child.ended();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the admin command names tenants too: of an open server, and of a store without keys", async () => {
  await using served = await openKeyedApp({ open: true });
  const where = { host: "127.0.0.1", port: 0, fetch: served.app.fetch };
  const server = await listen(where, served.context.lifecycle);
  const file = await Deno.makeTempFile({ suffix: ".safetensors" });
  await Deno.writeFile(file, writeCore(someCore(served.loaded.factors, 1)));
  const data = await newDataDirectory();
  const run = async (line: string): Promise<readonly [number, string]> => {
    const said: string[] = [];
    const [print, env] = [(text: string) => void said.push(text), () => undefined];
    const code = await runAdmin({ args: line.split(" "), env, print, complain: print });
    return [code, said.join("\n")];
  };
  try {
    const [code, text] = await run(`cores put newcomer/x ${file} --server ${server.url}`);
    assertEquals(code, 0, text);
    assertStringIncludes(text, "newcomer/x@1");
    assertEquals((await run(`cores put newcomer/x ${file} --data ${data}`))[0], 0);
    assertEquals((await run(`keys create newcomer --data ${data}`))[0], 0);
    const keyed = await run(`cores put ghost/x ${file} --data ${data}`);
    assertEquals(keyed[0], 1);
    assertStringIncludes(keyed[1], "'ghost'");
  } finally {
    await server.stop(0, () => Promise.resolve());
    await Deno.remove(file);
    await Deno.remove(data, { recursive: true });
  }
});
