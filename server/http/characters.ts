/** Half a character in a body: it would be read as U+FFFD, and nothing would be said. */
import { halfCharacter } from "../../src/util/surrogates.ts";
import { formatPath, invalid } from "./errors.ts";

/** JSON can spell half a character by an escape alone, and few bodies have one. */
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
