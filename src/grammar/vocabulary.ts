/**
 * A tokenizer's vocabulary as the grammar library reads it: the bytes of each token in GPT-2's
 * spelling.
 */
import { setImmediate } from "node:timers";
import type { Tokenizer } from "../checkpoint/checkpoint.ts";

/** Tokens spelled in one turn of the event loop. */
const SPELLED_AT_ONCE = 2048;

/** Spells the whole vocabulary, in slices between which the event loop is free. */
export async function spellAll(
  { tokenizer, vocabSize }: { readonly tokenizer: Tokenizer; readonly vocabSize: number },
): Promise<readonly string[]> {
  const known = Math.min(tokenizer.vocabSize, vocabSize);
  const vocabulary: string[] = [];
  for (let id = 0; id < known; id++) {
    vocabulary.push(spell(tokenizer, id));
    if (id % SPELLED_AT_ONCE === 0) await new Promise<void>((go) => void setImmediate(go));
  }
  return vocabulary;
}

/**
 * A token's bytes in GPT-2's printable spelling; empty for a special token, which no text may have.
 */
function spell(tokenizer: Tokenizer, id: number): string {
  if (tokenizer.isSpecial(id)) return "";
  let text = "";
  for (const byte of tokenizer.tokenBytes(id)) text += BYTE_SPELLING[byte];
  return text;
}

/**
 * Bytes that are no printable Latin-1 characters are moved behind Latin-1 (GPT-2's
 * bytes_to_unicode).
 */
const BYTE_SPELLING: readonly string[] = (() => {
  let shifted = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCharCode(printable ? byte : shifted++);
  });
})();
