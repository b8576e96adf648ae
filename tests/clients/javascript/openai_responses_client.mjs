/** openai's responses: whole, streamed, parsed, a conversation and a tool's loop that are kept. */
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { assert, KEY, MODEL, NOTE, QUESTION, URL, USER, WEATHER, weather } from "./common.mjs";

const { responses } = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const ask = { model: MODEL, temperature: 0, max_output_tokens: 64 };

const whole = await responses.create({ ...ask, input: QUESTION });
assert.match(whole.output_text, /Paris/);

const streamed = [];
const stream = responses.stream({ ...ask, input: QUESTION })
  .on("response.output_text.delta", ({ delta }) => streamed.push(delta));
assert.equal((await stream.finalResponse()).output_text, whole.output_text);
assert.equal(streamed.join(""), whole.output_text);

const format = { text: { format: zodTextFormat(USER, "user") } };
USER.parse((await responses.parse({ ...ask, ...format, input: NOTE })).output_parsed);
const parsed = await responses.stream({ ...ask, ...format, input: NOTE }).finalResponse();
USER.parse(parsed.output_parsed);

const second = await responses.create({
  ...{ ...ask, input: "And of Italy?", previous_response_id: whole.id },
});
assert.ok(second.usage.input_tokens > whole.usage.total_tokens);
assert.equal((await responses.retrieve(second.id)).output_text, second.output_text);

const tools = [zodResponsesFunction({ name: "get_weather", parameters: WEATHER })];
const asked = await responses.parse({
  ...{ ...ask, tools, input: "What is the weather in Oslo?", tool_choice: "required" },
  parallel_tool_calls: false,
});
const [call] = asked.output;
const output = weather(WEATHER.parse(call.parsed_arguments));
const answer = await responses.create({
  ...{ ...ask, tools, tool_choice: "none", previous_response_id: asked.id },
  input: [{ type: "function_call_output", call_id: call.call_id, output }],
});
assert.ok(answer.output_text.length > 0);
