// deno-lint-ignore-file camelcase -- names of the wire format
/** The anthropic client against a listening server on the default model: texts, tools and events. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";

const ADAPTERS = new URL("../fixtures/adapters", import.meta.url).pathname;
const MODEL = "SmolLM2-135M-Instruct";

async function withModel(body: (client: Anthropic) => Promise<void>): Promise<void> {
  const metrics = createMetrics();
  await using lembas = await Lembas.load({
    adapters: ADAPTERS,
    maxBatch: 2,
    maxContext: 512,
    kvMemory: 2 ** 28,
    listener: metrics.listener,
  });
  metrics.attach({ model: MODEL, stats: () => lembas.engine.stats() });
  const context = await toContext(lembas, {
    metrics,
    log: createLog("silent"),
    options: { apiKey: "secret", maxBody: 1 << 20, version: "0.0.0" },
  });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    await body(new Anthropic({ baseURL: server.url, apiKey: "secret", maxRetries: 0 }));
    lembas.engine.checkIntegrity();
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

const CAPITAL = {
  model: MODEL,
  max_tokens: 24,
  temperature: 0,
  system: "You answer in one sentence.",
  messages: [{ role: "user" as const, content: "What is the capital of France?" }],
};

function textOf({ content }: Pick<Anthropic.Message, "content">): string {
  return content.map((block) => block.type === "text" ? block.text : "").join("");
}

/** Whole, streamed, stopped, gone on with, by another core. */
async function checkText({ messages }: Anthropic): Promise<void> {
  const whole = await messages.create(CAPITAL);
  const text = textOf(whole);
  assert(text.includes("Paris"), text);
  const streamed = await messages.stream(CAPITAL).finalMessage();
  assertEquals([textOf(streamed), streamed.stop_reason], [text, whole.stop_reason]);
  const { input_tokens } = await messages.countTokens({
    ...{ model: MODEL, system: CAPITAL.system, messages: CAPITAL.messages },
  });
  for (const { usage } of [whole, streamed]) {
    assertEquals(usage.input_tokens + (usage.cache_read_input_tokens ?? 0), input_tokens);
    assert(usage.output_tokens > 0 && usage.output_tokens <= 24);
  }
  const stop = text.slice(8, 12);
  const cut = await messages.create({ ...CAPITAL, stop_sequences: [stop] });
  assertEquals([cut.stop_reason, cut.stop_sequence], ["stop_sequence", stop]);
  assertEquals(textOf(cut), text.slice(0, text.indexOf(stop)));
  const begun = { role: "assistant" as const, content: text.slice(0, 8) };
  const rest = await messages.create({ ...CAPITAL, messages: [...CAPITAL.messages, begun] });
  assert(textOf(rest).length > 0 && !textOf(rest).startsWith(begun.content));
  assert(textOf(await messages.create({ ...CAPITAL, model: "shelf" })) !== text);
}

const WEATHER: Anthropic.Tool = {
  name: "get_weather",
  description: "The weather of a city.",
  input_schema: {
    type: "object",
    properties: {
      city: { type: "string", enum: ["Oslo", "Rome"] },
      unit: { type: "string", enum: ["C", "F"] },
    },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};

/** A call that is forced, streamed and not, and an answer from its result. */
async function checkTools({ messages }: Anthropic): Promise<void> {
  const question = { role: "user" as const, content: "How warm is it in Rome, in C?" };
  const body = {
    ...{ model: MODEL, max_tokens: 100, temperature: 0, tools: [WEATHER] },
    messages: [question],
    tool_choice: { type: "tool" as const, name: "get_weather" },
  };
  const whole = await messages.create(body);
  const use = whole.content.find((block) => block.type === "tool_use");
  assert(use !== undefined, JSON.stringify(whole));
  assertEquals([use.name, whole.stop_reason], ["get_weather", "tool_use"]);
  const { city, unit } = use.input as Record<string, string>;
  assert(["Oslo", "Rome"].includes(city ?? "") && ["C", "F"].includes(unit ?? ""));
  const names = new Set<string>();
  const stream = messages.stream(body).on("streamEvent", ({ type }) => names.add(type));
  const streamed = await stream.finalMessage();
  const again = streamed.content.find((block) => block.type === "tool_use");
  assertEquals([again?.input, streamed.stop_reason], [use.input, "tool_use"]);
  assertEquals([...names], [
    ...["message_start", "content_block_start", "content_block_delta", "content_block_stop"],
    ...["message_delta", "message_stop"],
  ]);
  const answer = await messages.create({
    ...{ model: MODEL, max_tokens: 30, temperature: 0, tools: [WEATHER] },
    messages: [
      question,
      { role: "assistant", content: whole.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "31 C" }] },
    ],
  });
  assert(textOf(answer).length > 0 || answer.stop_reason === "tool_use", JSON.stringify(answer));
}

async function checkErrors({ messages }: Anthropic): Promise<void> {
  await assertRejects(
    () => messages.create({ ...CAPITAL, model: "nobody/nothing" }),
    Anthropic.NotFoundError,
    "does not exist",
  );
  const schema: Anthropic.Tool.InputSchema = { type: "object", properties: { a: { type: "x" } } };
  const tool_choice = { type: "any" as const };
  await assertRejects(
    () =>
      messages.create({ ...CAPITAL, tools: [{ ...WEATHER, input_schema: schema }], tool_choice }),
    Anthropic.BadRequestError,
    "tools[0].input_schema",
  );
}

Deno.test("the anthropic client works against the real model", async (t) => {
  await withModel(async (client) => {
    await t.step("text: whole, streamed, counted, stopped, gone on with", () => checkText(client));
    await t.step("a tool that is forced, and its result", () => checkTools(client));
    await t.step("errors", () => checkErrors(client));
  });
});
