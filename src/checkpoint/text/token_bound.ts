/**
 * How much text one token can stand for, so that what cannot fit is refused before it is encoded: a
 * text of n UTF-8 bytes has at least n / `longestToken` tokens, less the bytes that the vocabulary
 * lacks, which are dropped (SmolLM2's lacks some control characters' and two first bytes of rare
 * ones). Where something else than the vocabulary decides (white space that a token swallows, unknown
 * characters that become one), nothing can be said.
 */
import { Buffer } from "node:buffer";
import { stepsOf, type TokenizerJson } from "./tokenizer_json.ts";

/** NFC shrinks a text to a third or so: U+1FBE U+0308 U+0301, 7 bytes, becomes U+0390, 2 bytes. */
const NFC_SHRINKS = 4;

/**
 * UTF-8 bytes of a text that one token stands for at most; Infinity where nothing can be said.
 * @param bytes of each token of the vocabulary, as a text has them
 */
export function longestToken(json: TokenizerJson, bytes: Iterable<number>): number {
  if (json.added_tokens.some(({ lstrip, rstrip }) => lstrip || rstrip)) return Infinity;
  let longest = 1;
  for (const length of bytes) longest = Math.max(longest, length);
  for (const { content } of json.added_tokens) longest = Math.max(longest, byteLength(content));
  return longest * shrinking(json);
}

/**
 * Matches the characters whose first byte is in `lacking`: of each, one byte is dropped. Undefined
 * where a byte is lacking that stands within characters: then nothing can be said.
 */
export function droppedCharacters(lacking: readonly number[]): RegExp | undefined {
  if (lacking.some((byte) => byte >= 0x80 && byte < 0xc0)) return undefined;
  const ranges = lacking.filter((byte) => byte < 0xf5 && byte !== 0xc0 && byte !== 0xc1).map(
    (byte) => {
      const [first, last] = begunBy(byte);
      return `\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`;
    },
  );
  // an empty class matches nothing
  return new RegExp(`[${ranges.join("")}]`, "gu");
}

/** The first and last character that begin with a byte, in UTF-8 (RFC 3629). */
function begunBy(byte: number): readonly [number, number] {
  if (byte < 0x80) return [byte, byte];
  const [bits, shift] = byte < 0xe0 ? [0x1f, 6] : byte < 0xf0 ? [0x0f, 12] : [0x07, 18];
  const first = (byte & bits) << shift;
  return [first, Math.min(first + (1 << shift) - 1, 0x10ffff)];
}

/** By how much normalising makes a text shorter at most. */
function shrinking({ normalizer }: TokenizerJson): number {
  let factor = 1;
  for (const step of stepsOf(normalizer, "normalizers")) {
    if (step.type === "NFC") factor *= NFC_SHRINKS;
    else if (step.type === "Prepend" || isLengthening(step)) continue;
    else return Infinity;
  }
  return factor;
}

/** `Replace` of a text by one that is no shorter, as SentencePiece's mark for a space. */
function isLengthening({ type, pattern, content }: Readonly<Record<string, unknown>>): boolean {
  const from = (pattern as { readonly String?: unknown } | undefined)?.String;
  return type === "Replace" && typeof from === "string" && typeof content === "string" &&
    byteLength(content) >= byteLength(from);
}

/** Bytes of a text in UTF-8, counted without a copy; half a character counts as U+FFFD. */
export function byteLength(text: string): number {
  return Buffer.byteLength(text);
}
