/** Vercel's ai through @ai-sdk/openai-compatible: chats, and completions of plain texts. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";
import { assert, KEY, MODEL, URL } from "./common.mjs";
import { tryModel } from "./vercel_ai.mjs";

const lembas = createOpenAICompatible({
  name: "lembas",
  baseURL: `${URL}/v1`,
  apiKey: KEY,
  supportsStructuredOutputs: true,
});
await tryModel(lembas(MODEL), { lembas: { parallel_tool_calls: false } });
const model = lembas.completionModel(MODEL);
const { text } = await generateText({ model, prompt: "One, two, three,", maxOutputTokens: 8 });
assert.ok(text.length > 0);
