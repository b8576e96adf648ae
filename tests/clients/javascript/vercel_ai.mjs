/** Vercel's ai: what both its providers are asked, texts, streams, objects and a tool's whole loop. */
import {
  generateObject,
  generateText,
  Output,
  stepCountIs,
  streamObject,
  streamText,
  tool,
} from "ai";
import { assert, NOTE, QUESTION, USER, WEATHER, weather } from "./common.mjs";

/** @param providerOptions have one call at most in an answer */
export async function tryModel(model, providerOptions) {
  const ask = { model, temperature: 0, maxOutputTokens: 100, maxRetries: 0 };
  const { text } = await generateText({ ...ask, prompt: QUESTION });
  assert.match(text, /Paris/);

  let streamed = "";
  for await (const part of streamText({ ...ask, prompt: QUESTION }).textStream) streamed += part;
  assert.equal(streamed, text);

  USER.parse((await generateObject({ ...ask, schema: USER, prompt: NOTE })).object);
  const objects = streamObject({ ...ask, schema: USER, prompt: NOTE });
  let parts = 0;
  for await (const _ of objects.partialObjectStream) parts += 1;
  assert.ok(parts > 1);
  USER.parse(await objects.object);
  const output = Output.object({ schema: USER });
  USER.parse((await generateText({ ...ask, output, prompt: NOTE })).output);

  const get_weather = tool({
    description: "The weather of a city.",
    inputSchema: WEATHER,
    execute: weather,
  });
  const looped = {
    ...ask,
    providerOptions,
    tools: { get_weather },
    prompt: "What is the weather in Oslo?",
    stopWhen: stepCountIs(4),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  };
  checkSteps(await generateText(looped));
  const stream = streamText(looped);
  await stream.consumeStream();
  checkSteps({ steps: await stream.steps, text: await stream.text });
}

function checkSteps({ steps, text }) {
  assert.equal(steps.length, 2);
  assert.match(steps[0].toolResults[0].output, /snow/);
  assert.ok(text.length > 0);
}
