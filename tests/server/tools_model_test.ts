// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client calls tools of the default model: forced, so that 135M parameters suffice. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";

const MODEL = "SmolLM2-135M-Instruct";

const ORDER = {
  type: "object",
  properties: {
    city: { type: "string", maxLength: 20 },
    unit: { enum: ["celsius", "fahrenheit"] },
    days: { type: "array", items: { type: "integer", minimum: 1, maximum: 7 }, maxItems: 3 },
  },
  required: ["city", "unit", "days"],
  additionalProperties: false,
};
const tools: OpenAI.ChatCompletionTool[] = [
  { type: "function", function: { name: "forecast", strict: true, parameters: ORDER } },
  { type: "function", function: { name: "stop", description: "Ends it" } },
];
const named = { type: "function", function: { name: "forecast" } } as const;
const ask = {
  model: MODEL,
  messages: [{ role: "user" as const, content: "The weather in Paris, for two days?" }],
  tools,
  seed: 7,
  // cut off calls would say nothing
  max_completion_tokens: 200,
};

async function withClient(body: (client: OpenAI) => Promise<void>): Promise<void> {
  const metrics = createMetrics();
  const { listener } = metrics;
  await using lembas = await Lembas.load({
    ...{ maxBatch: 4, maxContext: 1024, kvMemory: 2 ** 28, listener },
  });
  metrics.attach({ model: MODEL, stats: () => lembas.engine.stats() });
  const options = { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" };
  const context = await toContext(lembas, { metrics, log: createLog("silent"), options });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    await body(new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 }));
    lembas.engine.checkIntegrity();
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

Deno.test("the openai client gets forced calls that a validator takes, whole and streamed", async () => {
  const valid = new Ajv2020({ strict: false }).compile(ORDER);
  await withClient(async (client) => {
    const { completions } = client.chat;
    const whole = await completions.create({ ...ask, tool_choice: named, n: 3 });
    for (const { message, finish_reason } of whole.choices) {
      const [call, ...more] = message.tool_calls ?? [];
      assertEquals([message.content, finish_reason, more.length], [null, "tool_calls", 0]);
      assert(call?.type === "function" && call.function.name === "forecast");
      assert(valid(JSON.parse(call.function.arguments)), call.function.arguments);
    }
    const stream = completions.stream({ ...ask, tool_choice: named });
    const pieces: string[] = [];
    stream.on("tool_calls.function.arguments.delta", (delta) => pieces.push(delta.arguments_delta));
    const [choice] = (await stream.finalChatCompletion()).choices;
    const [streamed] = choice?.message.tool_calls ?? [];
    assert(streamed?.type === "function" && valid(JSON.parse(streamed.function.arguments)));
    const [first] = whole.choices[0]?.message.tool_calls ?? [];
    assert(first?.type === "function");
    assertEquals(streamed.function.arguments, first.function.arguments);
    assert(pieces.length > 3, "the arguments come in pieces");
    assertEquals(choice?.finish_reason, "tool_calls");
    await checkRequired(client);
    await checkHistory(client, streamed);
    const error = await assertRejects(
      () => completions.create({ ...ask, tools: [...tools, odd("not")], tool_choice: "required" }),
      OpenAI.BadRequestError,
      "#/properties/a/not",
    );
    assertEquals(error.param, "tools[2].function.parameters");
  });
});

/** A function whose schema no grammar can hold. */
function odd(keyword: string): OpenAI.ChatCompletionTool {
  const properties = { a: Object.fromEntries([[keyword, {}]]) };
  const parameters = { type: "object", properties };
  return { type: "function", function: { name: "odd", parameters } };
}

async function checkRequired(client: OpenAI): Promise<void> {
  const stream = client.chat.completions.stream({
    ...ask,
    tool_choice: "required",
    parallel_tool_calls: false,
  });
  const [choice] = (await stream.finalChatCompletion()).choices;
  assertEquals(choice?.message.tool_calls?.length, 1);
}

/** What came goes back as it is, with a result. */
async function checkHistory(
  client: OpenAI,
  call: OpenAI.ChatCompletionMessageToolCall,
): Promise<void> {
  const answer = await client.chat.completions.create({
    ...ask,
    max_completion_tokens: 8,
    messages: [
      ...ask.messages,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: call.id, content: "12 degrees" },
    ],
  });
  assertEquals(answer.choices.length, 1);
}
