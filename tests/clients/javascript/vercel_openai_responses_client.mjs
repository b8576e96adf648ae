/** Vercel's ai through @ai-sdk/openai's default, responses; and what its server keeps. */
import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";
import { assert, KEY, MODEL, QUESTION, URL } from "./common.mjs";
import { tryModel } from "./vercel_ai.mjs";

const model = createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY })(MODEL);
await tryModel(model, { openai: { parallelToolCalls: false } });

const ask = { model, temperature: 0, maxOutputTokens: 32, maxRetries: 0 };
const first = await generateText({ ...ask, prompt: QUESTION });
const previousResponseId = first.providerMetadata.openai.responseId;
const second = await generateText({
  ...ask,
  prompt: "And of Italy?",
  providerOptions: { openai: { previousResponseId } },
});
assert.ok(second.text.length > 0);
assert.ok(second.usage.inputTokens > first.usage.totalTokens);
