/** `deno task admin` against a server and against a store, and the words of its refusals. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { runAdmin } from "../../server/cli/admin/command.ts";
import { adminHelp } from "../../server/cli/admin/flags.ts";
import { momentOf } from "../../server/cli/admin/keys.ts";
import { isKeyText } from "../../server/access/keys.ts";
import { listen } from "../../server/serve.ts";
import { writeCore } from "../../adapters/lotr/format.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { someCore } from "./engine_context.ts";
import { openKeyedApp } from "./keyed_app.ts";

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line; words with spaces do not occur. */
async function run(line: string, env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await runAdmin({
    args: line.split(" "),
    env: (name) => env[name],
    print: (text) => void out.push(text),
    complain: (text) => void err.push(text),
  });
  return { code, out: out.join("\n"), err: err.join("\n") };
}

async function succeed(line: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const { code, out, err } = await run(line, env);
  assertEquals([code, err], [0, ""], line);
  return out;
}

Deno.test("a store is administered with no server, and its keys then work on one", async () => {
  const data = await newDataDirectory();
  try {
    const at = (line: string) => `${line} --data ${data}`;
    assertStringIncludes(await succeed(at("tenants create acme --weight 2 --queued none")), "acme");
    const made = await succeed(at("keys create acme --scopes infer,train --expires 30d"));
    const text = made.split("\n").at(-1) ?? "";
    assert(isKeyText(text), made);
    const listed = JSON.parse(await succeed(at("keys list acme --output json")));
    assertEquals([listed.length, listed[0].hint], [1, text.slice(0, 10)]);
    assertEquals((await run(at("tenants remove acme"))).code, 2);
    assertEquals(await succeed(at("tenants remove acme --confirm acme")), "removed acme");
    assertMatch((await run(at("keys list acme"))).err, /No such tenant: acme/);
  } finally {
    await Deno.remove(data, { recursive: true });
  }
});

Deno.test("a running server is administered over HTTP: cores, keys, usage, a backup", async () => {
  await using served = await openKeyedApp();
  const { app, context, keys, loaded } = served;
  const where = { host: "127.0.0.1", port: 0, fetch: app.fetch };
  const server = await listen(where, context.lifecycle);
  const directory = await Deno.makeTempDir();
  const env = { LEMBAS_SERVER: server.url, LEMBAS_API_KEY: keys.admin };
  try {
    const file = `${directory}/one.safetensors`;
    await Deno.writeFile(file, writeCore(someCore(loaded.factors, 1)));
    assertMatch(await succeed(`cores put acme/shelf ${file}`, env), /acme\/shelf@1 +yes +stored/);
    await Deno.writeFile(file, writeCore(someCore(loaded.factors, 2)));
    assertMatch(await succeed(`cores put acme/shelf ${file} --publish later`, env), /@2 +no/);
    assertMatch(await succeed("cores publish acme/shelf@2", env), /@2 +yes/);
    assertMatch(await succeed("cores rollback acme/shelf", env), /@1 +yes/);
    assertMatch(await succeed("cores list", env), /acme\/shelf@1/);
    assertEquals((await succeed("cores versions acme/shelf", env)).split("\n").length, 3);
    await succeed(`cores get acme/shelf@2 ${directory}/two.safetensors`, env);
    assertEquals(await Deno.readFile(`${directory}/two.safetensors`), await Deno.readFile(file));
    assertMatch(await succeed("cores remove acme/shelf@2", env), /removed 1 version/);
    assertEquals(await succeed("usage", env), "none");
    assertMatch(await succeed("factors list", env), /^(none|digest +bytes)/);
    const path = `${directory}/backup.db`;
    assertMatch(await succeed(`backup ${path}`, env), /^wrote .*backup\.db, [\d.]+ [KM]iB$/);
    await succeed(`restore ${path} ${directory}/data`);
    const restored = await succeed(`tenants list --data ${directory}/data --output json`);
    const ids = JSON.parse(restored).map(({ id }: { id: string }) => id);
    assertEquals(ids, ["globex", "acme", "default"]);
    const refused = await run("tenants list", { ...env, LEMBAS_API_KEY: keys.acme });
    assertEquals(refused.code, 1);
    assertMatch(refused.err, /it needs 'admin'/);
  } finally {
    await server.stop(1, () => Promise.resolve());
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("what cannot be run is one line that says what can", async () => {
  const cases: readonly (readonly [string, number, RegExp])[] = [
    ["tenant list", 2, /Unknown command 'tenant list'; did you mean 'tenants list'\?/],
    ["tenants create", 2, /'tenants create' with 0 words after it: it takes TENANT/],
    ["tenants list --scopes infer", 2, /Cannot use --scopes with 'tenants list'/],
    ["tenants list --sever x", 2, /Unknown flag '--sever'; did you mean '--server'\?/],
    ["tenants list --server ftp://x", 2, /--server 'ftp:\/\/x': it must be an http or https URL/],
    ["tenants list --data a --server http://x", 2, /more than one of --server, --data/],
    ["tenants list --server ftp://me:s3@cret@x", 2, /--server 'ftp:\/\/x': it must be an http/],
    ["tenants list --api-kye=s3cret", 2, /Unknown flag '--api-kye'; did you mean '--api-key'/],
    ["tenants list --server http://me:s3@cret@127.0.0.1:1", 1, /reach http:\/\/127\.0\.0\.1:1: /],
    ["tenants list --output xml", 2, /--output: current value is 'xml', it must be text or json/],
    ["tenants limit acme --weight much", 2, /--weight: current value is 'much'/],
    [
      "keys create acme --expires soon",
      2,
      /Cannot use --expires: current value is 'soon', it must be 12h/,
    ],
    [
      "tenants limit acme --priority 1.5",
      2,
      /--priority: current value is '1\.5', it must be a whole/,
    ],
    [
      "tenants limit acme --weight 0",
      2,
      /--weight: current value is '0', it must be a number above/,
    ],
    [
      "tenants limit acme --concurrency=-1",
      2,
      /--concurrency: current value is '-1', it must be a w/,
    ],
    ["usage --from soon", 2, /Cannot use --from: current value is 'soon'/],
    ["usage --by week", 2, /--by: current value is 'week', it must be tenant, model or day/],
    [
      "keys create acme --scopes root",
      2,
      /--scopes: current value is 'root', it must be infer, train/,
    ],
    ["cores put a/b /none", 1, /Cannot read '\/none': there is no such file/],
    [
      "cores put a/b /none --publish x",
      2,
      /--publish: current value is 'x', it must be now or later/,
    ],
    ["restore /none /none", 1, /Cannot read '\/none': there is no such file/],
    ["cores publish acme/shelf", 2, /say which version, e\.g\. 'acme\/shelf@1'/],
    ["cores versions a/b/c", 2, /Cannot use adapter name "a\/b\/c"/],
    ["tenants list --server http://127.0.0.1:1", 1, /Cannot reach http:\/\/127\.0\.0\.1:1: /],
  ];
  for (const [line, code, message] of cases) {
    const ran = await run(line);
    assertEquals([ran.code, ran.out], [code, ""], line);
    assertMatch(ran.err, message);
    assert(!/\n|s3|cret/.test(ran.err), ran.err);
  }
});

Deno.test("help names every command; times are spans or dates", async () => {
  assertEquals(await succeed("--help"), adminHelp());
  for (const word of ["keys create TENANT", "--expires", "backup FILE", "--database"]) {
    assertStringIncludes(adminHelp(), word);
  }
  const own = await succeed("keys create --help");
  for (const word of ["deno task admin keys create TENANT", "--expires", "--server"]) {
    assertStringIncludes(own, word);
  }
  assert(!own.includes("tenants"), own);
  const now = Date.UTC(2026, 0, 31);
  assertEquals(momentOf("--to", "12h", now) - now / 1000, 12 * 3600);
  assertEquals(momentOf("--to", "2w", now) - now / 1000, 14 * 86_400);
  assertEquals(momentOf("--to", "2026-02-01", now) - now / 1000, 86_400);
});
