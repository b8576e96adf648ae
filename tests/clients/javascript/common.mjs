/**
 * Where the scripts of this folder find the server, and the few things that they all ask about. Each
 * shows one client as its own front page does, and fails where an answer is not what such a program
 * needs. Calls are forced (`tool_choice`), so that 135M parameters suffice.
 */
import { strict as assert } from "node:assert";
import process from "node:process";
import { z } from "zod";

/** Without a slash at its end: OpenAI's clients add /v1, Anthropic's do not. */
export const { LEMBAS_URL: URL, LEMBAS_KEY: KEY, LEMBAS_MODEL: MODEL } = process.env;

export const QUESTION = "What is the capital of France? Answer in one sentence.";
export const NOTE = "Extract the user: John Doe is 30 years old.";
export const USER = z.object({
  name: z.string().max(30).describe("full name"),
  age: z.number().int().min(0).max(150),
});
/** What the tool get_weather takes. */
export const WEATHER = z.object({
  city: z.string().max(20),
  unit: z.enum(["celsius", "fahrenheit"]),
});
/** The same as JSON Schema. */
export const WEATHER_SCHEMA = z.toJSONSchema(WEATHER);

export function weather({ city, unit }) {
  return `-3 degrees ${unit} in ${city}, snow`;
}

export { assert };
