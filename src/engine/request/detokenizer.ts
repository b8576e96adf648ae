/**
 * Tokens to text, one at a time. Trap: a token may end in the middle of a UTF-8 character, so bytes
 * are held until they make whole characters.
 */
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";

const NO_BYTES = new Uint8Array(0);

/** What each token adds to a text; shared by all sequences of an engine. */
export class TokenTexts {
  readonly #tokenizer: Tokenizer;
  readonly #whole: (string | undefined)[] = [];
  readonly #fatal = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  bytes(token: number): Uint8Array {
    return this.#tokenizer.tokenBytes(token);
  }

  /** A special token's spelling; undefined for an ordinary one. */
  special(token: number): string | undefined {
    return this.#tokenizer.isSpecial(token) ? this.#tokenizer.tokenText(token) : undefined;
  }

  /** The token's text where its bytes are whole characters, undefined where they are not. */
  whole(token: number): string | undefined {
    const known = this.#whole[token];
    if (known !== undefined) return known;
    try {
      return this.#whole[token] = this.#fatal.decode(this.bytes(token));
    } catch (error) {
      if (error instanceof TypeError) return undefined;
      throw error;
    }
  }
}

/** Decodes a sequence's tokens; invalid bytes become U+FFFD as TextDecoder has it. */
export class Detokenizer {
  readonly #texts: TokenTexts;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #pending = NO_BYTES;

  constructor(texts: TokenTexts, options: { readonly skipSpecialTokens: boolean }) {
    this.#texts = texts;
    this.#skipSpecial = options.skipSpecialTokens;
  }

  /** The characters that became whole with this token. */
  push(token: number): string {
    const special = this.#texts.special(token);
    if (special !== undefined) return this.#skipSpecial ? "" : this.finish() + special;
    if (this.#pending.length === 0) {
      const whole = this.#texts.whole(token);
      if (whole !== undefined) return whole;
    }
    const bytes = join(this.#pending, this.#texts.bytes(token));
    const end = bytes.length - unfinished(bytes);
    this.#pending = bytes.slice(end);
    return this.#decoder.decode(bytes.subarray(0, end));
  }

  /** What is left: an unfinished character as U+FFFD. */
  finish(): string {
    const rest = this.#decoder.decode(this.#pending);
    this.#pending = NO_BYTES;
    return rest;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** Bytes at the end that begin a UTF-8 character without finishing it: 0 to 3. */
function unfinished(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xC0) === 0x80) continue;
    return characterLength(byte) > back ? back : 0;
  }
  return 0;
}

function characterLength(lead: number): number {
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  return lead >= 0xC2 && lead < 0xE0 ? 2 : 1;
}
