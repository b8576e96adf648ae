/** The flags of serve: defaults, environment, and the text of every refusal. */
import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { helpText, parseFlags, type ServeFlags } from "../../../server/cli/serve_flags.ts";
import { FlagError } from "../../../server/cli/flags.ts";
import { formatBytes, parseBytes } from "../../../src/util/bytes.ts";

function parse(args: string[], env: Record<string, string> = {}): ServeFlags {
  const command = parseFlags(args, (name) => env[name]);
  if (command.type !== "serve") throw new TypeError(`a ${command.type} command`);
  return command.flags;
}

Deno.test("without flags there are the documented defaults", () => {
  assertEquals(parse([]), {
    port: 8000,
    host: "127.0.0.1",
    rootPath: undefined,
    model: undefined,
    chatTemplate: undefined,
    defaultChatTemplateKwargs: undefined,
    generationConfig: "auto",
    toolCallParser: "auto",
    reasoningParser: "none",
    factors: [],
    adapters: undefined,
    loraModules: [],
    maxLoraRank: 64,
    enableLora: "true",
    maxLoras: undefined,
    maxCpuLoras: undefined,
    device: "auto",
    dtype: "auto",
    maxBatch: 32,
    maxContext: undefined,
    kvMemory: undefined,
    coreMemory: undefined,
    laneMemory: 2 ** 30,
    maxQueue: 1024,
    jumpForward: false,
    forceIncludeUsage: false,
    tokensAsIds: false,
    requestTimes: false,
    maxBody: 8 << 20,
    maxFile: 512 * 2 ** 20,
    data: undefined,
    databaseUrl: undefined,
    keepResponses: 30,
    trainShare: 0.25,
    trainJobs: 16,
    apiKey: undefined,
    open: true,
    grace: 30,
    logLevel: "info",
    logFormat: "text",
    metricsAccess: "key",
    allowedHosts: [],
    corsOrigins: [],
    strict: false,
    servedModelNames: [],
  });
});

Deno.test("a flag wins over its environment variable", () => {
  const env = { LEMBAS_PORT: "9000", LEMBAS_MAX_BATCH: "8", LEMBAS_KV_MEMORY: "1.5GiB" };
  const flags = parse(["--port", "9001"], env);
  assertEquals([flags.port, flags.maxBatch, flags.kvMemory], [9001, 8, 1.5 * 2 ** 30]);
});

Deno.test("factors repeat, or are separated by commas in the environment", () => {
  assertEquals(parse(["--factors", "a", "--factors=b"]).factors, ["a", "b"]);
  assertEquals(parse([], { LEMBAS_FACTORS: "a,b" }).factors, ["a", "b"]);
});

Deno.test("LoRAs come as vLLM has them: several behind their flag, with commas, as JSON", () => {
  const [a, b] = [{ name: "a", path: "loras/a" }, { name: "b", path: "hf:some/b" }];
  const modules = (...args: string[]) => parse(["--lora-modules", ...args]).loraModules;
  assertEquals(modules("a=loras/a", "b=hf:some/b", "--port", "1"), [a, b]);
  assertEquals(modules("a=loras/a,b=hf:some/b"), [a, b]);
  assertEquals(modules("a=loras/a", "--lora-modules", "b=hf:some/b"), [a, b]);
  const json = ({ name, path }: typeof a) =>
    JSON.stringify({ name, path, "base_model_name": "base" });
  assertEquals(modules(json(a), json(b)), [a, b]);
  assertEquals(parse([], { LEMBAS_LORA_MODULES: `${json(a)}, b=hf:some/b` }).loraModules, [a, b]);
  for (const wrong of ['{"name":"a"}', '{"name":1,"path":"b"}', "{a}", "a"]) {
    assertThrows(() => modules(wrong), FlagError, "--lora-modules");
  }
  const flags = ["--enable-lora", "--max-loras", "4", "--max-lora-rank=16", "--max-cpu-loras=8"];
  assertEquals(parse(flags).maxLoraRank, 16);
  assertThrows(() => parse(["--port", "1", "a=b"]), FlagError, "Unexpected argument 'a=b'");
});

Deno.test("strict stands alone or has a value; the base may be served under several names", () => {
  assertEquals(parse(["--strict"]).strict, true);
  assertEquals(parse([], { LEMBAS_STRICT: "true" }).strict, true);
  const names = ["--served-model-name", "gpt-4o,acme/tiny", "--served-model-name", "small"];
  assertEquals(parse(names).servedModelNames, ["gpt-4o", "acme/tiny", "small"]);
  assertThrows(() => parse(["--served-model-name", "ft:x"]), FlagError, "--served-model-name");
});

Deno.test("a root path begins with a slash and ends with none", () => {
  assertEquals(parse(["--root-path", "/llm/v2/"]).rootPath, "/llm/v2");
  for (const path of ["llm", "/", "//llm", "/llm?x", "https://x/llm"]) {
    assertThrows(() => parse(["--root-path", path]), FlagError, "--root-path");
  }
});

Deno.test("an empty environment variable counts as unset", () => {
  assertEquals(parse([], { LEMBAS_PORT: "", LEMBAS_API_KEY: "" }).port, 8000);
});

Deno.test("a bad value is one line with the flag, the value and what would be right", () => {
  const cases: readonly [string[], RegExp][] = [
    [["--port", "70000"], /--port .*current value is '70000', .*0 to 65535/],
    [["--port", "x"], /--port/],
    [["--dtype", "int2"], /--dtype .*'int2'.*auto, int8, int4, file, fp32, fp16/],
    [["--kv-memory", "lots"], /--kv-memory .*'lots'.*512MiB/],
    [["--max-batch", "0"], /--max-batch .*'0'/],
    [["--api-key"], /--api-key: it needs a value/],
    [["--adaptors", "x"], /Unknown flag '--adaptors'; did you mean '--adapters'\?/],
    [["--zzzzzz"], /Unknown flag '--zzzzzz' See --help/],
    [["serve"], /Unexpected argument 'serve'/],
    [["--train-share", "0"], /--train-share .*'0', .*above 0 and at most 1/],
    [["--train-share", "1.5"], /--train-share .*'1\.5'/],
    [["--train-jobs", "0"], /--train-jobs .*'0'/],
    [["--data"], /--data: it needs a value/],
  ];
  for (const [args, message] of cases) {
    const error = assertThrows(() => parse(args), FlagError);
    assertMatch(error.message, message);
    assertEquals(error.message.includes("\n"), false);
  }
});

Deno.test("a server is open on loopback alone, and not beside a key or a database", () => {
  for (const host of ["0.0.0.0", "::", "example.org", "1270.0.0.1"]) {
    assertEquals(parse(["--host", host]).open, false, host);
    const error = assertThrows(() => parse(["--host", host, "--open"]), FlagError);
    assertStringIncludes(error.message, "API keys are needed");
  }
  for (const host of ["localhost", "::1", "127.0.0.1", "127.1.2.3"]) {
    assertEquals(parse(["--host", host]).open, true, host);
    assertEquals(parse(["--host", host], { LEMBAS_API_KEY: "k" }).open, false, host);
    assertEquals(parse(["--host", host], { DATABASE_URL: "postgres://h/d" }).open, false, host);
    assertEquals(parse(["--host", host, "--open=false"]).open, false, host);
  }
  assertEquals(parse(["--open"], { DATABASE_URL: "postgres://h/d" }).open, true);
  assertEquals(parse(["--open", "--port", "1"]).port, 1);
  assertEquals(parse([], { LEMBAS_OPEN: "false" }).open, false);
  assertThrows(() => parse(["--open", "perhaps"]), FlagError, "'perhaps', it must be true, false");
  assertThrows(() => parse(["--open", "--api-key", "k"]), FlagError, "leave one of them out");
});

Deno.test("the store is in a directory or in PostgreSQL, not in both", () => {
  const url = "postgres://h/d";
  assertEquals(parse([], { DATABASE_URL: url }).databaseUrl, url);
  assertEquals(parse(["--database-url", url], { DATABASE_URL: "postgres://x" }).databaseUrl, url);
  assertEquals(parse(["--database-url", url]).open, false);
  const both = () => parse(["--data", "d", "--database-url", url]);
  assertThrows(both, FlagError, "leave one of them out");
  assertThrows(() => parse(["--data", "d"], { DATABASE_URL: url }), FlagError, "DATABASE_URL");
});

Deno.test("help names every flag and its default, and wins over other flags", () => {
  assertEquals(parseFlags(["--help", "--port", "x"], () => undefined).type, "help");
  assertEquals(parseFlags(["-h"], () => undefined).type, "help");
  assertEquals(parseFlags(["--version"], () => undefined).type, "version");
  for (const flag of ["--port", "--kv-memory", "--api-key", "8MiB", "LEMBAS_PORT"]) {
    assertStringIncludes(helpText(), flag);
  }
});

Deno.test("sizes are read and written as people do", () => {
  const cases: readonly [string, number | undefined][] = [
    ["1048576", 1048576],
    ["512MiB", 512 * 2 ** 20],
    ["2g", 2 * 2 ** 30],
    ["1.5 GB", 1.5e9],
    ["-1", undefined],
    ["1XB", undefined],
    ["", undefined],
    ["9999999999999 TiB", undefined],
  ];
  for (const [text, bytes] of cases) assertEquals(parseBytes(text), bytes, text);
  assertEquals(formatBytes(512 * 2 ** 20), "512 MiB");
  assertEquals(formatBytes(1536), "1.5 KiB");
});

Deno.test("hosts and origins repeat, or are separated by commas, on both sides", () => {
  const args = ["--allowed-hosts", "a.lan,b.lan", "--allowed-hosts=c.lan", "--cors-origin"];
  const flags = parse([...args, "https://App.example:443,app://notes", "--cors-origin=http://a:1"]);
  assertEquals(flags.allowedHosts, ["a.lan", "b.lan", "c.lan"]);
  assertEquals(flags.corsOrigins, ["https://app.example", "app://notes", "http://a:1"]);
  const env = { LEMBAS_ALLOWED_HOSTS: "a.lan,b.lan", LEMBAS_CORS_ORIGIN: "https://app.example" };
  const fromEnv = parse([], env);
  assertEquals(fromEnv.allowedHosts, ["a.lan", "b.lan"]);
  assertEquals(fromEnv.corsOrigins, ["https://app.example"]);
});

Deno.test("what is no host and no origin is refused with what would be right", () => {
  const cases: readonly [string[], RegExp][] = [
    [["--allowed-hosts", "http://a.lan"], /--allowed-hosts .*'http:\/\/a.lan'.*without scheme/],
    [["--allowed-hosts", "a.lan:80"], /--allowed-hosts .*'a.lan:80'.*port/],
    [["--allowed-hosts", "*"], /--allowed-hosts .*'\*'/],
    [["--cors-origin", "app.example"], /--cors-origin .*'app.example'.*https:\/\/app.example/],
    [["--cors-origin", "https://app.example/x"], /--cors-origin .*path/],
    [["--cors-origin", "*"], /--cors-origin \*.*any web page.*--open=false/],
    [["--cors-origin", ""], /--cors-origin: it needs a value/],
  ];
  for (const [args, text] of cases) {
    assertMatch(assertThrows(() => parse(args), FlagError).message, text);
  }
  assertEquals(parse(["--cors-origin", "*", "--open=false"]).corsOrigins, ["*"]);
});

Deno.test("--default-chat-template-kwargs is a JSON object without what a template gets from us", () => {
  const flag = "--default-chat-template-kwargs";
  const { defaultChatTemplateKwargs } = parse([flag, '{"enable_thinking": false}']);
  assertEquals(defaultChatTemplateKwargs, { enable_thinking: false });
  for (const wrong of ["thinking", "[1]", "null", '{"messages": []}', '{"tools": 1}']) {
    assertThrows(() => parse([flag, wrong]), FlagError, flag);
  }
});
