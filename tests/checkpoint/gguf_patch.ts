/**
 * Copies of GGUF fixtures with one metadata key hidden or one id changed, in place: everything stays
 * where it is, so the copy is as whole as the file it was made from.
 */

import { fixture } from "./fixtures.ts";

export interface GgufPatch {
  /** Keys that the copy seems not to have. */
  readonly hide?: readonly string[];
  /** New values of u32 keys. */
  readonly set?: Readonly<Record<string, number>>;
  /** Token types by token id. */
  readonly types?: Readonly<Record<number, number>>;
}

/** Bytes of the patched fixture. */
export function patchedGguf(
  name: string,
  { hide = [], set = {}, types = {} }: GgufPatch,
): Uint8Array<ArrayBuffer> {
  const bytes = Deno.readFileSync(fixture(name));
  const view = new DataView(bytes.buffer);
  for (const key of hide) bytes[endOf(bytes, key) - 1] = "_".charCodeAt(0);
  for (const [key, value] of Object.entries(set)) {
    view.setUint32(endOf(bytes, key) + 4, value, true);
  }
  for (const [id, type] of Object.entries(types)) {
    // The value's type, the elements' type and their count come first.
    const start = endOf(bytes, "tokenizer.ggml.token_type") + 16;
    view.setUint32(start + 4 * Number(id), type, true);
  }
  return bytes;
}

/** Where the bytes of a key end. */
function endOf(bytes: Uint8Array, key: string): number {
  const wanted = new TextEncoder().encode(key);
  const at = bytes.findIndex((_, i) => wanted.every((byte, j) => bytes[i + j] === byte));
  if (at < 0) throw new RangeError(`the fixture has no key '${key}'`);
  return at + wanted.length;
}
