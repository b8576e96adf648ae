/**
 * What a request gives back: what the tokens of each sample become as text, where that text ends (at
 * a stop token, a stop string or the end of the model's turn), and the stream to the caller. Two
 * things are held back: bytes until they make whole characters, and text that may be the start of a
 * stop string until the next tokens decide.
 */
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";
import type {
  FinishReason,
  Generation,
  GenerationDelta,
  GenerationTimes,
  SamplingParams,
  TokenLogprob,
  Usage,
} from "./request.ts";

/** What each token adds to a text; shared by all sequences of an engine. */
export class TokenTexts {
  readonly #tokenizer: Tokenizer;
  readonly #whole: (string | undefined)[] = [];
  /** Tokens that end or begin within a character. */
  readonly #parts = new Set<number>();
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

  /** Its bytes, a character each, and a special token's spelling. */
  spelled(token: number): string {
    return this.special(token) ?? String.fromCharCode(...this.bytes(token));
  }

  /** The token's text where its bytes are whole characters, undefined where they are not. */
  whole(token: number): string | undefined {
    const known = this.#whole[token];
    if (known !== undefined || this.#parts.has(token)) return known;
    try {
      return this.#whole[token] = this.#fatal.decode(this.bytes(token));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.#parts.add(token);
      return undefined;
    }
  }
}

/** Decodes a sequence's tokens; invalid bytes become U+FFFD as TextDecoder has it. */
export class Detokenizer {
  readonly #texts: TokenTexts;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** The decoder may hold the bytes of an unfinished character. */
  #split = false;

  constructor(texts: TokenTexts, options: { readonly skipSpecialTokens: boolean }) {
    this.#texts = texts;
    this.#skipSpecial = options.skipSpecialTokens;
  }

  /** The characters that became whole with this token. */
  push(token: number): string {
    const special = this.#texts.special(token);
    if (special !== undefined) return this.#skipSpecial ? "" : this.finish() + special;
    const whole = this.#texts.whole(token);
    if (whole !== undefined && !this.#split) return whole;
    this.#split = whole === undefined;
    return this.#decoder.decode(this.#texts.bytes(token), { stream: true });
  }

  /** What is left: an unfinished character as U+FFFD. */
  finish(): string {
    if (!this.#split) return "";
    this.#split = false;
    return this.#decoder.decode();
  }
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

type Step = IteratorResult<GenerationDelta, undefined>;

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };

export interface StreamOptions {
  readonly promptTokens: number;
  readonly times: () => GenerationTimes;
  /** The caller's; it is no longer listened to once the stream has ended. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the signal fires or the reader leaves before the end. */
  readonly onLeave: () => void;
}

/**
 * The stream from the engine to one caller: the deltas of a request's samples, in order, then its
 * end or an error. Deltas that nobody has asked for yet are kept. Iterable once. Leaving the iteration
 * early cancels the request.
 */
export class GenerationStream implements Generation, AsyncIterator<GenerationDelta, undefined> {
  readonly #options: StreamOptions;
  readonly #deltas: GenerationDelta[] = [];
  #reader: PromiseWithResolvers<Step> | undefined;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #iterated = false;
  #completionTokens = 0;
  #cachedTokens = 0;
  #promptLogprobs: readonly TokenLogprob[] | undefined;

  constructor(options: StreamOptions) {
    this.#options = options;
    options.signal?.addEventListener("abort", options.onLeave, { once: true });
  }

  get usage(): Usage {
    return {
      promptTokens: this.#options.promptTokens,
      completionTokens: this.#completionTokens,
      cachedTokens: this.#cachedTokens,
    };
  }

  get times(): GenerationTimes {
    return this.#options.times();
  }

  /** Hands one delta to the reader, or keeps it until asked for. */
  push(delta: GenerationDelta): void {
    if (this.#ended) return;
    this.#completionTokens += delta.tokens.length;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#deltas.push(delta);
    else reader.resolve({ done: false, value: delta });
  }

  get promptLogprobs(): readonly TokenLogprob[] | undefined {
    return this.#promptLogprobs;
  }

  /** All prompt tokens are scored. */
  scored(logprobs: readonly TokenLogprob[]): void {
    this.#promptLogprobs = logprobs;
  }

  /** Prompt tokens that a sample found in the prefix cache; of several samples the most counts. */
  cached(tokens: number): void {
    this.#cachedTokens = Math.max(this.#cachedTokens, tokens);
  }

  /** No more deltas come. */
  end(): void {
    if (this.#ended) return;
    this.#close();
    this.#reader?.resolve(DONE);
    this.#reader = undefined;
  }

  /** No more deltas come, and the reader gets the error after those that did. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#close();
    if (this.#reader === undefined) this.#failure = { error };
    else this.#reader.reject(error);
    this.#reader = undefined;
  }

  [Symbol.asyncIterator](): this {
    if (this.#iterated) {
      throw new TypeError("Cannot iterate a generation twice: its deltas were handed out");
    }
    this.#iterated = true;
    return this;
  }

  next(): Promise<Step> {
    const delta = this.#deltas.shift();
    if (delta !== undefined) return Promise.resolve({ done: false, value: delta });
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) return Promise.reject(failure.error);
    if (this.#ended) return Promise.resolve(DONE);
    if (this.#reader !== undefined) {
      return Promise.reject(new TypeError("Cannot read a generation twice at once"));
    }
    this.#reader = Promise.withResolvers();
    return this.#reader.promise;
  }

  /** The reader leaves: nothing more is wanted. */
  return(): Promise<IteratorReturnResult<undefined>> {
    this.#deltas.length = 0;
    if (!this.#ended) this.#options.onLeave();
    this.end();
    return Promise.resolve(DONE);
  }

  #close(): void {
    this.#ended = true;
    this.#options.signal?.removeEventListener("abort", this.#options.onLeave);
  }
}
