/**
 * From a body's bytes to JSON, with what is refused: broken UTF-8, more than 100 levels, more than
 * a million values, half a character. Short bodies are parsed on the event loop, long ones in
 * `json_worker.ts`.
 */
import { halfCharacter } from "../../src/util/surrogates.ts";
import { ApiError, formatPath, invalid } from "./errors.ts";

/** Most levels of a body: more would overflow the stack of code that walks it. */
const MAX_DEPTH = 100;
/**
 * Most values of a body, enough for the tokens of the longest context. More would hold up the
 * event loop.
 */
const MAX_VALUES = 2 ** 20 + 1000;

export interface Parsed {
  readonly text: string;
  readonly value: unknown;
  /** How many values are in it, itself among them. */
  readonly count: number;
}

/** @throws {ApiError} 400 */
export function parseBody(bytes: Uint8Array): Parsed {
  const { text, value } = parseJson(bytes);
  const values = { left: MAX_VALUES };
  const fault = tooMuch(value, MAX_DEPTH, values);
  if (fault !== undefined) {
    throw new ApiError(400, `The JSON body ${fault}.`, { code: "invalid_json" });
  }
  checkCharacters(text, value);
  return { text, value, count: MAX_VALUES - values.left };
}

function parseJson(bytes: Uint8Array): Pick<Parsed, "text" | "value"> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { text, value: JSON.parse(text) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ApiError(
      400,
      `The JSON body of your request could not be parsed: ${reason}.`,
      { code: "invalid_json" },
    );
  }
}

/** What is too much: values, or levels. */
function tooMuch(value: unknown, depth: number, values: { left: number }): string | undefined {
  if (--values.left < 0) return `has more than ${MAX_VALUES} values`;
  if (typeof value !== "object" || value === null) return undefined;
  if (depth === 0) return `is nested deeper than ${MAX_DEPTH} levels`;
  for (const inner of Array.isArray(value) ? value : Object.values(value)) {
    const fault = tooMuch(inner, depth - 1, values);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/**
 * Only an escape can spell half a character in JSON. Few bodies have one, so most are not
 * searched.
 */
const ESCAPE = /\\ud[89a-f]/i;

/**
 * Looks through a body's strings and keys.
 *
 * @param json the text that it was read from
 * @throws {ApiError} 400, naming the field
 */
export function checkCharacters(json: string, value: unknown): void {
  if (ESCAPE.test(json)) check(value, []);
}

function check(value: unknown, path: readonly PropertyKey[]): void {
  if (typeof value === "string") return refuseHalf(value, path);
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    refuseHalf(key, path);
    check(inner, [...path, Array.isArray(value) ? Number(key) : key]);
  }
}

function refuseHalf(text: string, path: readonly PropertyKey[]): void {
  const half = halfCharacter(text);
  if (half === undefined) return;
  const param = formatPath(path);
  throw invalid(param, `Invalid '${param}': it has ${half}.`, "invalid_unicode");
}
