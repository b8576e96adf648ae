/** openai: chats whole and streamed, parsed structures, a tool's whole loop by its runner. */
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import {
  assert,
  KEY,
  MODEL,
  NOTE,
  QUESTION,
  URL,
  USER,
  WEATHER,
  WEATHER_SCHEMA,
} from "./common.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const ask = { model: MODEL, temperature: 0, max_tokens: 100 };
const messages = [{ role: "user", content: QUESTION }];
const whole = await client.chat.completions.create({ ...ask, messages });
const text = whole.choices[0].message.content;
assert.match(text, /Paris/);

const streamed = [];
for await (
  const chunk of await client.chat.completions.create({ ...ask, messages, stream: true })
) {
  streamed.push(chunk.choices[0]?.delta?.content ?? "");
}
assert.equal(streamed.join(""), text);

const parsed = await client.chat.completions.parse({
  ...ask,
  messages: [{ role: "user", content: NOTE }],
  response_format: zodResponseFormat(USER, "user"),
});
USER.parse(parsed.choices[0].message.parsed);

const called = [];
const run = client.chat.completions.runTools({
  ...ask,
  messages: [{ role: "user", content: "What is the weather in Oslo?" }],
  tool_choice: { type: "function", function: { name: "get_weather" } },
  tools: [{
    type: "function",
    function: {
      name: "get_weather",
      parse: (given) => WEATHER.parse(JSON.parse(given)),
      function: (given) => called.push(given) && "-3 degrees, snow",
      parameters: WEATHER_SCHEMA,
    },
  }],
});
await run.done();
assert.ok(called.length > 0);
