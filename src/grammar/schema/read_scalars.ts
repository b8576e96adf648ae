/** A schema's constraints on strings, numbers and counts, read as automata and bounds. */
import { type Automaton, intersect, ofLength, TooManyStatesError } from "../automata/automaton.ts";
import { FORMATS } from "./formats.ts";
import { type Bound, numberAutomaton } from "./numbers.ts";
import { patternAutomaton } from "../automata/pattern.ts";
import { refuse } from "./schema_error.ts";
import type { Shape } from "./shape.ts";

/** A schema that is an object. */
export type Schema = { readonly [keyword: string]: unknown };

/**
 * Most characters that are counted in strings: each takes about 40 ms to compile (49,152 tokens).
 */
const MOST_CHARACTERS = 256;
const BOUNDS = [
  ["minimum", "least", true],
  ["maximum", "most", true],
  ["exclusiveMinimum", "least", false],
  ["exclusiveMaximum", "most", false],
] as const;

/** The least and the most of a count; 0 and Infinity where the schema has none. */
export function readCounts(
  schema: Schema,
  [least, most]: readonly [string, string],
  limit: number,
  path: string,
): { readonly least: number; readonly most: number } {
  const count = (keyword: string, fallback: number): number => {
    if (!Object.hasOwn(schema, keyword)) return fallback;
    const value = schema[keyword];
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= limit) {
      return value;
    }
    return refuse(`${path}/${keyword}`, `is ${show(value)}, not an integer of 0 … ${limit}`);
  };
  const counts = { least: count(least, 0), most: count(most, Infinity) };
  if (counts.least > counts.most) {
    refuse(`${path}/${least}`, `is ${counts.least}, above its maximum ${counts.most}`);
  }
  return counts;
}

/** Undefined where the string is not constrained. */
export function readStrings(schema: Schema, path: string): Automaton | undefined {
  const parts: Automaton[] = [];
  if (Object.hasOwn(schema, "pattern")) {
    const { pattern } = schema;
    if (typeof pattern !== "string") refuse(`${path}/pattern`, "is not a string");
    parts.push(made(`${path}/pattern`, show(pattern), () => patternAutomaton(pattern)));
  }
  if (Object.hasOwn(schema, "format")) {
    const format = FORMATS.get(String(schema.format));
    if (format === undefined || typeof schema.format !== "string") {
      const known = [...FORMATS.keys()].join(", ");
      refuse(`${path}/format`, `is ${show(schema.format)}, not one of ${known}`);
    }
    parts.push(patternAutomaton(format.pattern));
  }
  const { least, most } = readCounts(schema, ["minLength", "maxLength"], MOST_CHARACTERS, path);
  if (least > 0 || most < Infinity) {
    parts.push(ofLength(least, most === Infinity ? undefined : most));
  }
  const [first, ...others] = parts;
  if (first === undefined) return undefined;
  return made(path, "its strings", () => others.reduce(intersect, first));
}

export function readNumbers(schema: Schema, type: "integer" | "number", path: string): Shape {
  const number = (keyword: string): number | undefined => {
    if (!Object.hasOwn(schema, keyword)) return undefined;
    const value = schema[keyword];
    if (typeof value === "number" && Number.isFinite(value)) return value;
    return refuse(`${path}/${keyword}`, `is ${show(value)}, not a number`);
  };
  const bounds = BOUNDS.flatMap(([keyword, side, inclusive]): Bound[] => {
    const value = number(keyword);
    return value === undefined ? [] : [{ side, value, inclusive }];
  });
  const multipleOf = number("multipleOf");
  if (multipleOf !== undefined && multipleOf <= 0) {
    refuse(`${path}/multipleOf`, `is ${multipleOf}, not above 0`);
  }
  const range = { type, bounds, multipleOf };
  const place = multipleOf === undefined ? path : `${path}/multipleOf`;
  const spellings = made(place, undefined, () => numberAutomaton(range));
  return { kind: "number", range, spellings };
}

/** Makes an automaton; where that throws, refuses the schema at `path` with the reason. */
function made(path: string, what: string | undefined, make: () => Automaton): Automaton {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof TooManyStatesError)) throw error;
    return refuse(path, what === undefined ? error.message : `${what} ${error.message}`);
  }
}

/** A value as it is shown in a refusal. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}
