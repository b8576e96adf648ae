/**
 * What the tokens of a sample become as text, and where that text ends: at a stop token, a stop
 * string or the end of the model's turn. Two things are held back: bytes until they make whole
 * characters, and text that may be the start of a stop string until the next tokens decide.
 */
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";
import { joinBytes } from "../../util/bytes.ts";
import type { FinishReason, SamplingParams } from "./request.ts";

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
    const bytes = joinBytes([this.#pending, this.#texts.bytes(token)]);
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

/** A stop string that was found. */
export interface StopMatch {
  readonly stop: string;
  /** The text before the stop string that was not yet handed out. */
  readonly before: string;
}

/** Looks for stop strings in a stream of text. */
export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Text that is safe to hand out, or the first stop string found. */
  push(text: string): string | StopMatch {
    if (this.#stops.length === 0 || text.length === 0) return text;
    const buffer = this.#held + text;
    const found = this.#first(buffer);
    if (found !== undefined) {
      this.#held = "";
      return found;
    }
    const keep = this.#startLength(buffer);
    this.#held = buffer.slice(buffer.length - keep);
    return buffer.slice(0, buffer.length - keep);
  }

  /** The held text, for an end without a stop string. */
  finish(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  #first(buffer: string): StopMatch | undefined {
    let at = Infinity;
    let first: string | undefined;
    for (const stop of this.#stops) {
      const index = buffer.indexOf(stop);
      if (index === -1 || index >= at) continue;
      at = index;
      first = stop;
    }
    return first === undefined ? undefined : { stop: first, before: buffer.slice(0, at) };
  }

  /** Length of the longest end of `buffer` that begins a stop string. */
  #startLength(buffer: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      let length = Math.min(stop.length - 1, buffer.length);
      while (length > longest && !buffer.endsWith(stop.slice(0, length))) length--;
      longest = Math.max(longest, length);
    }
    return longest;
  }
}

/** Why a sample ends. */
export interface Ending {
  readonly reason: FinishReason;
  /** The stop string or token id that ended it. */
  readonly stopReason?: string | number;
}

/** What one new token did to the output. */
export interface TokenOutcome {
  /** Text that can no longer be taken back. */
  readonly text: string;
  readonly ending: Ending | undefined;
}

/** The text of one sample as it grows. */
export class OutputText {
  readonly #params: SamplingParams;
  readonly #eosTokens: ReadonlySet<number>;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;

  constructor(texts: TokenTexts, eosTokens: ReadonlySet<number>, params: SamplingParams) {
    this.#params = params;
    this.#eosTokens = eosTokens;
    this.#detokenizer = new Detokenizer(texts, params);
    this.#stops = new StopStrings(params.stop);
  }

  /**
   * Takes output token number `count` (the first is 1): its text, and whether the text ends with
   * it.
   */
  push(token: number, count: number): TokenOutcome {
    const early = count < this.#params.minTokens;
    const stopReason = early ? undefined : this.#stopToken(token);
    if (stopReason !== undefined) return this.#endAtToken(token, stopReason);
    const text = this.#detokenizer.push(token);
    const safe = early ? text : this.#stops.push(text);
    if (typeof safe !== "string") return this.#endAtString(safe);
    return { text: safe, ending: undefined };
  }

  /** Text that was held back, for an end that brings none of its own. */
  finish(): string {
    const safe = this.#stops.push(this.#detokenizer.finish());
    return (typeof safe === "string" ? safe : safe.before) + this.#stops.finish();
  }

  /** A grammar ends with EOS whatever `ignoreEos` says: nothing may follow. */
  #stopToken(token: number): number | "eos" | undefined {
    const { ignoreEos, stopTokenIds, grammar } = this.#params;
    if (stopTokenIds.includes(token)) return token;
    const eosEnds = !ignoreEos || grammar !== undefined;
    return eosEnds && this.#eosTokens.has(token) ? "eos" : undefined;
  }

  #endAtString({ before, stop }: StopMatch): TokenOutcome {
    const text = this.#params.includeStopInOutput ? before + stop : before;
    return { text, ending: { reason: "stop", stopReason: stop } };
  }

  #endAtToken(token: number, stopReason: number | "eos"): TokenOutcome {
    const shown = this.#params.includeStopInOutput ? this.#detokenizer.push(token) : "";
    const text = this.#stops.finish() + shown + this.#detokenizer.finish();
    if (stopReason === "eos") return { text, ending: { reason: "stop" } };
    return { text, ending: { reason: "stop", stopReason } };
  }
}
