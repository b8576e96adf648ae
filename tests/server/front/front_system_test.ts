// deno-lint-ignore-file camelcase -- names of the wire format
/** Several devices behind one address: processes of their own on one PostgreSQL. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import OpenAI from "openai";
import { startPostgres } from "../../adapters/store/postgres_server.ts";
import { folderOf } from "../../engine/tiny.ts";
import { LONG } from "../../long.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { SoftwareGpu } from "../../programs/software_gpu.ts";
import { ServerProcess } from "../server_process.ts";

const SERVE = new URL("../../../server/cli/serve.ts", import.meta.url);
const MODEL = "llama";
const TEXT = "the road goes ever on and on, ".repeat(3);

/** What is asked of the same devices, whichever they are. */
async function check(devices: string, env: Readonly<Record<string, string>>): Promise<void> {
  await using postgres = await startPostgres();
  const args = ["--port", "0", "--model", folderOf(MODEL), "--device", devices, "--open"];
  const rows = ["--max-batch", "2", "--kv-memory", "8MiB", "--dtype", "fp32"];
  const server = new ServerProcess(SERVE, {
    args: [...args, ...rows],
    env: { ...env, DATABASE_URL: await postgres.newDatabase() },
  });
  const line = await server.line(/^serving http\S+ on 2 devices/);
  const url = /http:\S+(?=\/v1)/.exec(line)?.[0] ?? "";
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  const complete = async (prompt: string) => {
    const asked = { model: MODEL, prompt, max_tokens: 6, temperature: 0 };
    return await client.completions.create(asked);
  };

  // both at once, one for each
  const [mine, others] = await Promise.all([complete(TEXT), complete("hello")]);
  const text = mine.choices[0]?.text;
  assert(text !== others.choices[0]?.text);
  const again = await complete(TEXT);
  assertEquals(again.choices[0]?.text, text);
  const cached = again.usage?.prompt_tokens_details?.cached_tokens ?? 0;
  assert(cached > 0, "the prefix was not taken where it is");

  const stream = await client.completions.create({
    ...{ model: MODEL, prompt: TEXT, max_tokens: 6, temperature: 0, stream: true },
  });
  let streamed = "";
  for await (const { choices } of stream) streamed += choices[0]?.text ?? "";
  assertEquals(streamed, text);
  assertEquals((await Array.fromAsync(client.models.list()))[0]?.id, MODEL);

  const post = (path: string, body: unknown) =>
    fetch(`${url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const long = await post("/tokenize", { model: MODEL, prompt: "hello ".repeat(100_000) });
  assertEquals(long.status, 200);
  assert((await long.json()).count >= 100_000);
  const loaded = await post("/v1/load_lora_adapter", { lora_name: "a/b", lora_path: "c" });
  assertEquals([loaded.status, (await loaded.json()).error.code], [400, "several_devices"]);
  const metrics = await fetch(`${url}/metrics`);
  assertEquals(metrics.status, 404);
  await metrics.body?.cancel();

  server.kill("SIGTERM");
  const { code, lines } = await server.ended();
  assertEquals(code, 0, lines.join("\n"));
  for (const i of [0, 1]) {
    const own = lines.filter((line) => line.startsWith(`[${i}: `)).join("\n");
    assertMatch(own, /POST \/v1\/completions status=200/, `device ${i} took nothing`);
  }
}

Deno.test({
  ...onPostgres("two devices serve behind one address, and a prefix goes where it is"),
  fn: () => check("cpu,cpu", {}),
});

if (LONG) {
  Deno.test({
    ...onPostgres("two graphics devices in software serve behind one address"),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      await check("webgpu,webgpu", gpu.env);
    },
  });
}

Deno.test("several devices without PostgreSQL are refused in one line", async () => {
  const server = new ServerProcess(SERVE, { args: ["--device", "cpu,cpu"] });
  const { code, lines } = await server.ended();
  assertEquals([code, lines.length], [2, 1], lines.join("\n"));
  assertMatch(lines[0] ?? "", /Cannot serve several devices on the embedded store.*--database-url/);
});
