/** @anthropic-ai/sdk: messages whole and streamed, a tool's whole loop. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, KEY, MODEL, QUESTION, URL, WEATHER, weather, WEATHER_SCHEMA } from "./common.mjs";

const client = new Anthropic({ baseURL: URL, apiKey: KEY, maxRetries: 0 });
const ask = { model: MODEL, max_tokens: 200 };
const messages = [{ role: "user", content: QUESTION }];
const whole = await client.messages.create({ ...ask, messages });
assert.ok(whole.content[0].text.length > 0);

const streamed = [];
const stream = client.messages.stream({ ...ask, messages }).on(
  "text",
  (text) => streamed.push(text),
);
assert.equal((await stream.finalMessage()).content[0].text, streamed.join(""));

const tools = [{ name: "get_weather", description: "A city's.", input_schema: WEATHER_SCHEMA }];
const weatherAsked = [{ role: "user", content: "What is the weather in Oslo?" }];
const asked = await client.messages.create({
  ...ask,
  messages: weatherAsked,
  tools,
  tool_choice: { type: "tool", name: "get_weather", disable_parallel_tool_use: true },
});
assert.equal(asked.stop_reason, "tool_use");
const use = asked.content.find(({ type }) => type === "tool_use");
const result = weather(WEATHER.parse(use.input));
const answer = await client.messages.create({
  ...ask,
  messages: [
    ...weatherAsked,
    { role: "assistant", content: asked.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: result }] },
  ],
  tools,
  tool_choice: { type: "none" },
});
assert.ok(answer.content[0].text.length > 0);
