/** Words and schemas that the soak's requests are made of. Their sense does not matter. */
import type { Random } from "../workload.ts";

const WORDS = (
  "the a river stone lantern keeps walking under tall grass and every morning someone counts boats " +
  "before rain comes back from far hills where old songs are kept in jars of green glass by people " +
  "who never sleep while winter waits behind doors that nobody opened since spring went away"
).split(" ");

/** So many words, drawn. */
export function sentence(words: number, random: Random): string {
  return Array.from({ length: words }, () => WORDS[Math.floor(random() * WORDS.length)]).join(" ");
}

/** A long beginning, always the same for the same number: about 120 tokens. */
export function shared(number: number): string {
  const turned = WORDS.map((_, i) => WORDS[(i * 7 + number) % WORDS.length]);
  return `House rule ${number}: ${[...turned, ...turned].join(" ")}.`;
}

interface ObjectSchema {
  readonly type: "object";
  readonly properties: Readonly<Record<string, unknown>>;
  readonly required: readonly string[];
  readonly additionalProperties: false;
}

function objectOf(properties: Readonly<Record<string, unknown>>): ObjectSchema {
  const required = Object.keys(properties);
  return { type: "object", properties, required, additionalProperties: false };
}

/** Schemas that come again and again. */
export const SCHEMAS: readonly ObjectSchema[] = [
  objectOf({ shelf: { type: "string", enum: ["ledger", "garden", "music"] } }),
  objectOf({ count: { type: "integer", minimum: 0, maximum: 99 }, done: { type: "boolean" } }),
  objectOf({ words: { type: "array", items: { type: "string" }, maxItems: 3 } }),
  objectOf({ name: { type: "string", maxLength: 12 }, next: { type: ["integer", "null"] } }),
];
