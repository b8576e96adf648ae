/** Vercel's ai through @ai-sdk/openai, over chat completions. */
import { createOpenAI } from "@ai-sdk/openai";
import { KEY, MODEL, URL } from "./common.mjs";
import { tryModel } from "./vercel_ai.mjs";

const model = createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY }).chat(MODEL);
await tryModel(model, { openai: { parallelToolCalls: false } });
