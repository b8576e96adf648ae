// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A question, a call, its result, the right answer: with a real model, which `LEMBAS_TEST_TOOL_MODEL`
 * names as `--model` does; without it there is nothing to test. Qwen2.5-Coder-0.5B-Instruct passes.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import OpenAI from "openai";
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";

const SPEC = Deno.env.get("LEMBAS_TEST_TOOL_MODEL");

const DEGREES: Readonly<Record<string, number>> = { Oslo: -3, Cairo: 31, Lima: 19 };

const tools: OpenAI.ChatCompletionTool[] = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the current weather in a city",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string" },
        unit: { type: "string", enum: ["celsius", "fahrenheit"] },
      },
      required: ["city"],
    },
  },
}];

async function withModel(
  spec: string,
  body: (client: OpenAI, model: string) => Promise<void>,
): Promise<void> {
  const metrics = createMetrics();
  await using lembas = await Lembas.load({
    ...{ model: spec, maxBatch: 2, maxContext: 2048, listener: metrics.listener },
  });
  metrics.attach({ model: lembas.checkpoint.id, stats: () => lembas.engine.stats() });
  const options = { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" };
  const context = await toContext(lembas, { metrics, log: createLog("silent"), options });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  try {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
    await body(client, lembas.checkpoint.id);
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

/** Asks, runs what is called, and asks for the answer; the call is streamed. */
async function answerOf(client: OpenAI, model: string, city: string): Promise<string> {
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    {
      role: "system",
      content: "Call a function where you need one. Once you have its result, answer the user in " +
        "one English sentence.",
    },
    { role: "user", content: `What is the weather in ${city}?` },
  ];
  const ask = { model, messages, tools, temperature: 0, max_completion_tokens: 100 };
  const stream = client.chat.completions.stream(ask);
  const [choice] = (await stream.finalChatCompletion()).choices;
  const [call] = choice?.message.tool_calls ?? [];
  assertEquals(choice?.finish_reason, "tool_calls");
  assert(choice !== undefined && call?.type === "function");
  const { unit = "celsius", ...asked } = JSON.parse(call.function.arguments);
  assertEquals([call.function.name, asked], ["get_weather", { city }]);
  const result = JSON.stringify({ city, temperature: DEGREES[city], unit });
  messages.push(choice.message, { role: "tool", tool_call_id: call.id, content: result });
  const answer = await client.chat.completions.create({ ...ask, messages, tool_choice: "none" });
  return answer.choices[0]?.message.content ?? "";
}

Deno.test({
  name: "a real model calls, reads the result and answers rightly",
  ignore: SPEC === undefined,
  fn: () =>
    withModel(SPEC ?? "", async (client, model) => {
      for (const [city, degrees] of Object.entries(DEGREES)) {
        const answer = await answerOf(client, model, city);
        assertMatch(answer, new RegExp(`${city}.*${degrees}`), answer);
      }
    }),
});
