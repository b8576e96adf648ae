/** LangChain.js over responses: invoke, stream, a structure, a tool's whole loop. */
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { assert, KEY, MODEL, NOTE, QUESTION, URL, USER, WEATHER, weather } from "./common.mjs";

const llm = new ChatOpenAI({
  model: MODEL,
  apiKey: KEY,
  configuration: { baseURL: `${URL}/v1` },
  useResponsesApi: true,
  temperature: 0,
  maxTokens: 64,
  maxRetries: 0,
});
const said = await llm.invoke(QUESTION);
assert.match(said.text, /Paris/);

const streamed = [];
for await (const chunk of await llm.stream(QUESTION)) streamed.push(chunk.text);
assert.equal(streamed.join(""), said.text);

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
const answer = await llm.bindTools([getWeather], { tool_choice: "none" }).invoke(messages);
assert.ok(answer.text.length > 0);
