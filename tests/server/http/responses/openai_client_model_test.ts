// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client's responses against a listening server on the default model, with a store. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Sealer } from "../../../../server/access/sealing.ts";
import OpenAI from "openai";
import { Lembas } from "../../../../adapters/lembas.ts";
import { createApp } from "../../../../server/http/app.ts";
import { toContext } from "../../../../server/loaded.ts";
import { listen } from "../../../../server/serve.ts";
import { createLog } from "../../../../server/telemetry/log.ts";
import { createMetrics } from "../../../../server/telemetry/metrics.ts";
import { openTestStore } from "../../../adapters/store/test_store.ts";

const ADAPTERS = new URL("../../../fixtures/adapters", import.meta.url).pathname;
const ASK = { model: "SmolLM2-135M-Instruct", temperature: 0, max_output_tokens: 24 };

async function withClient(body: (client: OpenAI) => Promise<void>): Promise<void> {
  const log = createLog("silent");
  await using opened = await openTestStore(log);
  await using lembas = await Lembas.load({
    ...{ adapters: ADAPTERS, maxBatch: 4, maxContext: 512, kvMemory: 2 ** 28 },
  });
  const context = await toContext(lembas, {
    ...{ metrics: createMetrics(), log },
    responses: { store: opened.store, sealer: new Sealer("a secret of the test"), days: 30 },
    options: { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" },
  });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    await body(new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 }));
    lembas.engine.checkIntegrity();
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

async function checkText({ responses, chat }: OpenAI): Promise<void> {
  const input = "What is the capital of France?";
  const whole = await responses.create({ ...ASK, input });
  const { choices } = await chat.completions.create({
    ...{ model: ASK.model, temperature: 0, max_tokens: 24 },
    messages: [{ role: "user", content: input }],
  });
  assert(whole.output_text.length > 0);
  assertEquals(whole.output_text, choices[0]?.message.content);
  const stream = responses.stream({ ...ASK, input });
  let text = "";
  stream.on("response.output_text.delta", ({ delta }) => void (text += delta));
  assertEquals((await stream.finalResponse()).output_text, whole.output_text);
  assertEquals(text, whole.output_text);
  const adapted = await responses.create({ ...ASK, input, model: "shelf" });
  assert(adapted.output_text !== whole.output_text);
}

async function checkCompaction({ responses }: OpenAI): Promise<void> {
  const first = await responses.create({ ...ASK, input: "My name is Mira and I live in Oslo." });
  const { output, usage } = await responses.compact({
    ...{ model: ASK.model as never, previous_response_id: first.id },
  });
  assertEquals(output.map(({ type }) => type), ["message", "compaction"]);
  assert(usage.output_tokens > 1);
  const input = [...output as never[], { role: "user" as const, content: "Where do I live?" }];
  const onward = await responses.create({ ...ASK, input });
  const bare = await responses.create({ ...ASK, input: input.filter((_, at) => at !== 1) });
  // the summary is in the prompt, all but its end and what stands around it
  const more = (onward.usage?.input_tokens ?? 0) - (bare.usage?.input_tokens ?? 0);
  assert(more >= usage.output_tokens && more <= usage.output_tokens + 24, `${more}`);
}

async function checkConversation({ responses }: OpenAI): Promise<void> {
  const first = await responses.create({ ...ASK, input: "My name is Mira. Say hello." });
  const second = await responses.create({
    ...{ ...ASK, input: "What is my name?", previous_response_id: first.id },
  });
  const { input_tokens } = await responses.inputTokens.count({
    ...{ input: "What is my name?", previous_response_id: first.id },
  });
  assertEquals(second.usage?.input_tokens, input_tokens);
  assert(input_tokens > (first.usage?.total_tokens ?? 0));
  assertEquals((await responses.retrieve(second.id)).output_text, second.output_text);
  const items = await Array.fromAsync(responses.inputItems.list(second.id));
  assertEquals(items.length, 1);
  await responses.delete(second.id);
  await assertRejects(() => responses.retrieve(second.id), OpenAI.NotFoundError);
}

async function checkTools({ responses }: OpenAI): Promise<void> {
  const tools: OpenAI.Responses.FunctionTool[] = [{
    ...{ type: "function", name: "get_weather", strict: true },
    parameters: {
      type: "object",
      properties: { city: { enum: ["Oslo", "Rome"] } },
      ...{ required: ["city"], additionalProperties: false },
    },
  }];
  const asked = { ...ASK, max_output_tokens: 100, tools, parallel_tool_calls: false };
  const called = await responses.create({
    ...{ ...asked, input: "What is the weather in Oslo?", tool_choice: "required" as const },
  });
  assertEquals(called.status, "completed");
  const [call] = called.output;
  assert(call?.type === "function_call");
  assert(["Oslo", "Rome"].includes(JSON.parse(call.arguments).city), call.arguments);
  const output = { type: "function_call_output" as const, call_id: call.call_id, output: "Snow" };
  const answer = await responses.create({
    ...{ ...asked, tool_choice: "none" as const },
    ...{ previous_response_id: called.id, input: [output] },
  });
  assert(answer.output_text.length > 0);
  // the same without the store: all items are sent
  const sent = await responses.create({
    ...{ ...asked, tool_choice: "none" as const, store: false },
    input: [
      { role: "user", content: "What is the weather in Oslo?" },
      ...called.output as OpenAI.Responses.ResponseFunctionToolCall[],
      output,
    ],
  });
  assertEquals(sent.output_text, answer.output_text);
  assertEquals(sent.usage?.input_tokens, answer.usage?.input_tokens);
}

async function checkFormat({ responses }: OpenAI): Promise<void> {
  const schema = {
    type: "object",
    properties: { city: { type: "string" }, people: { type: "integer" } },
    ...{ required: ["city", "people"], additionalProperties: false },
  };
  const { output_parsed } = await responses.parse({
    ...{ ...ASK, input: "Paris as JSON.", max_output_tokens: 100 },
    text: { format: { type: "json_schema", name: "city", schema, strict: true } },
  });
  assertEquals(Object.keys(output_parsed ?? {}).toSorted(), ["city", "people"]);
  const include = ["message.output_text.logprobs" as const];
  const told = await responses.create({ ...ASK, input: "Hi", include, top_logprobs: 3 });
  const [message] = told.output;
  assert(message?.type === "message" && message.content[0]?.type === "output_text");
  const { logprobs = [] } = message.content[0];
  assert(logprobs.length > 0 && logprobs.every(({ top_logprobs }) => top_logprobs.length === 3));
}

Deno.test("the openai client's responses work against the real model", async (t) => {
  await withClient(async (client) => {
    await t.step("text: whole, streamed, by an adapter", () => checkText(client));
    await t.step("a compaction of it", () => checkCompaction(client));
    await t.step("a conversation that is kept", () => checkConversation(client));
    await t.step("a loop of tools, with and without the store", () => checkTools(client));
    await t.step("JSON by schema, and log probabilities", () => checkFormat(client));
  });
});
