// deno-lint-ignore-file camelcase -- names of the wire format
/** The model's sampling defaults over HTTP: what holds, what wins, and where it is told. */
import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { helpText } from "../../server/cli/serve_flags.ts";
import type { SamplingParams } from "../../src/engine/request/request.ts";
import { HELLO, post } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";
import { openKeyedApp } from "./keyed_app.ts";
import { ServerProcess } from "./server_process.ts";

const SAMPLING = {
  temperature: 0.2,
  topP: 0.9,
  topK: 40,
  minP: 0.05,
  repetitionPenalty: 1.1,
  maxTokens: 9,
};
const PROMPT = { model: "tiny", prompt: "hello" };

/** What the engine was asked for. */
async function sampled(context: FakeContext, path: string, body: unknown): Promise<SamplingParams> {
  const response = await post(context, path, body);
  assertEquals(response.status, 200, await response.text());
  const request = context.engine.requests.at(-1);
  if (request === undefined) throw new Error("the engine was not asked");
  return request.sampling;
}

Deno.test("a request that says nothing of sampling has the model's, in chats and completions", async () => {
  const context = fakeContext({ sampling: SAMPLING });
  for (const [path, body] of [["/v1/chat/completions", HELLO], ["/v1/completions", PROMPT]]) {
    const params = await sampled(context, path as string, body);
    assertEquals({ ...params, ...SAMPLING }, params);
  }
  const neutral = await sampled(fakeContext(), "/v1/completions", PROMPT);
  assertEquals([neutral.temperature, neutral.topP, neutral.maxTokens], [1, 1, 16]);
});

Deno.test("a request's own values win, field by field; only the bound on its output stays", async () => {
  const context = fakeContext({ sampling: SAMPLING });
  const own = { temperature: 0, top_k: 0, min_p: 0, repetition_penalty: 1, max_tokens: 3 };
  const params = await sampled(context, "/v1/completions", { ...PROMPT, ...own });
  const { temperature, topP, topK, minP, repetitionPenalty, maxTokens } = params;
  assertEquals([temperature, topP, topK, minP, repetitionPenalty, maxTokens], [0, 0.9, 0, 0, 1, 3]);
  const nulls = { temperature: null, top_p: null, max_tokens: 150 };
  const bounded = await sampled(context, "/v1/chat/completions", { ...HELLO, ...nulls });
  assertEquals([bounded.temperature, bounded.topP, bounded.maxTokens], [0.2, 0.9, 9]);
});

Deno.test("/v1/models says which defaults hold, for the base and its adapters", async () => {
  const context = fakeContext({ sampling: { temperature: 0.2, topP: 0.9 } });
  context.adapters.add("ada/haiku");
  const wanted = {
    ...{ temperature: 0.2, top_p: 0.9, top_k: 0, min_p: 0, repetition_penalty: 1 },
    max_tokens: null,
  };
  const app = createApp(context);
  for (const model of ["tiny", "ada/haiku"]) {
    const body = await (await app.request(`/v1/models/${model}`)).json();
    assertEquals(body.sampling_defaults, wanted, model);
  }
});

Deno.test("the playground begins with the model's temperature, and says the rest", async () => {
  await using served = await openKeyedApp({ open: true });
  const page = await (await served.ask("GET", "/console/playground")).text();
  assertMatch(page, /name="temperature"[^>]* value="1"/);
  assertStringIncludes(page, "top_p 1, top_k 0");
});

Deno.test("the log and --help say where the defaults come from", async () => {
  assertMatch(helpText(), /--generation-config auto\|model\|none\|DIR\n.*\(default: auto\)/);
  const script = new URL("./serve_child.ts", import.meta.url);
  const args = ["--port", "0", "--generation-config", "none"];
  const child = new ServerProcess(script, { args });
  await child.url();
  const line = await child.line(/sampling where a request says nothing/);
  assertStringIncludes(line, "temperature 1, top_p 1, top_k 0");
  assertStringIncludes(line, "(--generation-config none)");
  child.kill("SIGTERM");
  await child.ended();
});

Deno.test("the library has the same defaults: the default base's authors', or neutral ones", async () => {
  const small = { maxBatch: 1, maxContext: 64, kvMemory: 2 ** 27 };
  await using lembas = await Lembas.load(small);
  assertEquals(lembas.sampling, { temperature: 0.2, topP: 0.9 });
  const ask = async (options: object) => {
    const { tokens } = await lembas.generate("A lichen is", { maxTokens: 12, seed: 3, ...options });
    return tokens;
  };
  const said = await ask({});
  assertEquals(said, await ask({ temperature: 0.2, topP: 0.9 }));
  assertNotEquals(said, await ask({ temperature: 1, topP: 1 }));
});
