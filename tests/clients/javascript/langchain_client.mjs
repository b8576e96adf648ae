/** LangChain.js: invoke, stream, structured output by its default method, a tool's whole loop. */
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { assert, KEY, MODEL, NOTE, QUESTION, URL, USER, WEATHER, weather } from "./common.mjs";

const llm = new ChatOpenAI({
  model: MODEL,
  apiKey: KEY,
  configuration: { baseURL: `${URL}/v1` },
  temperature: 0,
  maxTokens: 100,
  maxRetries: 0,
});
assert.match((await llm.invoke(QUESTION)).content, /Paris/);

const streamed = [];
for await (const chunk of await llm.stream(QUESTION)) streamed.push(chunk.content);
assert.match(streamed.join(""), /Paris/);

USER.parse(await llm.withStructuredOutput(USER).invoke(NOTE));

const getWeather = tool(weather, {
  name: "get_weather",
  description: "The weather of a city.",
  schema: WEATHER,
});
const messages = [new HumanMessage("What is the weather in Oslo?")];
const forced = llm.bindTools([getWeather], {
  tool_choice: "get_weather",
  parallel_tool_calls: false,
});
const asked = await forced.invoke(messages);
assert.equal(asked.tool_calls.length, 1);
messages.push(asked, await getWeather.invoke(asked.tool_calls[0]));
assert.match(messages.at(-1).content, /snow/);
const answer = await llm.bindTools([getWeather], { tool_choice: "none" }).invoke(messages);
assert.ok(answer.content.length > 0);
