/**
 * Which keywords of JSON Schema a grammar can hold a model to, and how. What is in no list here is
 * refused by name: a grammar never lets through what a schema forbids.
 */

import { FORMATS } from "./formats.ts";

/** How a keyword is held: what is not said is exact. */
export interface Keyword {
  readonly name: string;
  readonly note?: string;
}

/**
 * Keywords that say nothing about the value: JSON Schema's, OpenAPI's `example`, and `strict`, which
 * OpenAI has beside a function's parameters and many a client inside them.
 */
export const ANNOTATIONS: readonly string[] = [
  "$comment",
  "$schema",
  "default",
  "deprecated",
  "description",
  "example",
  "examples",
  "readOnly",
  "strict",
  "title",
  "writeOnly",
];
/** Keywords that hold schemas for references. */
export const DEFINITIONS: readonly string[] = ["$defs", "definitions"];
/** Keywords that stand for the whole schema: no constraint beside them would be heard. */
export const WHOLE: readonly Keyword[] = [
  { name: "$ref", note: "to a place within the schema (#/…)" },
  { name: "const" },
  { name: "enum" },
  { name: "anyOf" },
  { name: "oneOf", note: "of schemas that have no value in common" },
  { name: "allOf", note: "of one schema" },
];

const NUMBER: readonly Keyword[] = [
  { name: "minimum" },
  { name: "maximum" },
  { name: "exclusiveMinimum" },
  { name: "exclusiveMaximum" },
  { name: "multipleOf", note: "of up to 100 times a power of ten" },
];

/** Keywords that ask something of one type. */
export const BY_TYPE: ReadonlyMap<string, readonly Keyword[]> = new Map([
  ["string", [
    { name: "minLength", note: "up to 256" },
    { name: "maxLength", note: "up to 256" },
    { name: "pattern", note: "without look-arounds, back-references and word boundaries" },
    { name: "format", note: [...FORMATS.keys()].join(", ") },
  ]],
  ["integer", NUMBER],
  ["number", NUMBER],
  ["boolean", []],
  ["null", []],
  ["array", [
    { name: "items" },
    { name: "prefixItems" },
    { name: "minItems", note: "up to 2,000" },
    { name: "maxItems", note: "up to 2,000" },
  ]],
  ["object", [
    { name: "properties", note: "written in this order; no others unless additionalProperties" },
    { name: "required" },
    { name: "additionalProperties", note: "never under a named key; may repeat one another" },
    { name: "minProperties", note: "with additional properties: one beyond the required ones" },
    { name: "maxProperties" },
  ]],
]);

/** The names of a type's keywords. */
export function keywordsOf(type: string): readonly string[] {
  return (BY_TYPE.get(type) ?? []).map(({ name }) => name);
}
