/** JSON files beside a model's weights, read with errors that name the file. */

import { exists } from "./fetch/cache.ts";

/** @throws {TypeError} naming a file that is not JSON */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new TypeError(`Cannot read ${path}: it is not JSON`, { cause });
  }
}

/**
 * Undefined where there is no such file.
 *
 * @throws {TypeError} naming a file that is not a JSON object
 */
export async function optionalJson(path: string): Promise<object | undefined> {
  if (!await exists(path)) return undefined;
  const value = await readJson(path);
  if (typeof value === "object" && value !== null) return value;
  throw new TypeError(`Cannot read ${path}: it is not a JSON object`);
}
