/**
 * What the tokens of a sample become as text, and where that text ends: at a stop token, a stop
 * string or the end of the model's turn. Text that may be the start of a stop string is held back
 * until the next tokens decide.
 */
import { Detokenizer, type TokenTexts } from "./detokenizer.ts";
import type { FinishReason, SamplingParams } from "./request.ts";

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
