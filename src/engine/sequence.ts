/**
 * One sample of one request on its way through the engine: its state, its tokens, how many of them
 * have keys and values, and how its text comes out. It knows no batch and no device.
 *
 * ```
 * loading → waiting → prefill → running → finished
 *              ↑____________________|   (preempted: tokens kept, keys and values dropped)
 * ```
 * Every state may go to `finished`. `running` means that all tokens but the newest are computed.
 */
import type { Account } from "./accounts.ts";
import type { CoreLease } from "./request/adapter.ts";
import { Detokenizer, StopStrings, type TokenTexts } from "./request/detokenizer.ts";
import type { TokenMatcher } from "../grammar/matcher.ts";
import type { Lane } from "./lane.ts";
import { BLOCK_TOKENS, PrefixChain } from "./memory/prefix_cache.ts";
import type { FinishReason, GenerationRequest } from "./request/request.ts";
import { SampleState } from "./request/sample_row.ts";
import type { Place } from "./waiting.ts";

export type SequenceState = "loading" | "waiting" | "prefill" | "running" | "finished";

const NEXT: Readonly<Record<SequenceState, readonly SequenceState[]>> = {
  loading: ["waiting", "finished"],
  waiting: ["prefill", "finished"],
  prefill: ["running", "waiting", "finished"],
  running: ["waiting", "finished"],
  finished: [],
};

/** Why a sequence ends, found with its newest token. */
export interface Ending {
  readonly reason: FinishReason;
  readonly stopReason?: string | number;
}

/** What one new token did to the output. */
export interface TokenOutcome {
  readonly text: string;
  readonly ending: Ending | undefined;
}

export interface SequenceOptions {
  readonly request: GenerationRequest;
  /** Which of the request's n samples. */
  readonly index: number;
  readonly seed: number;
  /** Its tenant's. */
  readonly account: Account;
  readonly place: Place;
  readonly lane: Lane;
  readonly texts: TokenTexts;
  readonly eosTokens: ReadonlySet<number>;
  /** Tokens at which the sequence ends for length: prompt + output. */
  readonly maxLength: number;
  /** Milliseconds (performance.now()). */
  readonly now: number;
}

export class Sequence {
  readonly request: GenerationRequest;
  readonly index: number;
  readonly account: Account;
  readonly place: Place;
  readonly arrivedAt: number;
  readonly maxLength: number;
  readonly sampling: SampleState;
  /** The lane it waits for or runs in; the engine may change it while it waits. */
  lane: Lane;
  /** Its row in the lane while it is in prefill or running. */
  slot: number | undefined;
  /** Tokens with keys and values in the slot. */
  computed = 0;
  /** Bytes reserved for the row. */
  reserved = 0;
  /** Prompt tokens that the first admission found in the prefix cache. */
  cachedTokens: number | undefined;
  /** Blocks of it known to be in the prefix cache. */
  savedBlocks = 0;
  lease: CoreLease | undefined;
  matcher: TokenMatcher | undefined;
  /** Asked to leave; it does at the next boundary between runs. */
  cancelled = false;
  admittedAt: number | undefined;
  firstTokenAt: number | undefined;
  lastTokenAt: number | undefined;
  /** Found with its last token. */
  ending: Ending | undefined;
  /** Samples of the same prompt that wait for this one's prefix. */
  followers: Sequence[] = [];

  #state: SequenceState = "loading";
  #tokens: Int32Array;
  #length: number;
  #chain: PrefixChain | undefined;
  #hit: { readonly generation: number; readonly length: number; readonly tokens: number } = {
    generation: -1,
    length: 0,
    tokens: 0,
  };
  readonly #eosTokens: ReadonlySet<number>;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;

  constructor(options: SequenceOptions) {
    const { request, texts } = options;
    const params = request.sampling;
    this.request = request;
    this.index = options.index;
    this.account = options.account;
    this.place = options.place;
    this.lane = options.lane;
    this.arrivedAt = options.now;
    this.maxLength = options.maxLength;
    this.#eosTokens = options.eosTokens;
    this.#tokens = Int32Array.from(request.prompt);
    this.#length = request.prompt.length;
    this.sampling = new SampleState({
      params,
      seed: options.seed,
      sample: options.index,
      prompt: request.prompt,
      stopTokens: [...options.eosTokens, ...params.stopTokenIds],
    });
    this.#detokenizer = new Detokenizer(texts, params);
    this.#stops = new StopStrings(params.stop);
  }

  /** `request#index`, for messages. */
  get label(): string {
    return `${this.request.id}#${this.index}`;
  }

  get state(): SequenceState {
    return this.#state;
  }

  /** Prompt and output tokens together. */
  get length(): number {
    return this.#length;
  }

  get outputs(): number {
    return this.#length - this.request.prompt.length;
  }

  /** Tokens without keys and values yet. */
  get uncomputed(): number {
    return this.#length - this.computed;
  }

  get lastToken(): number {
    return this.#tokens[this.#length - 1] ?? 0;
  }

  /** A view of tokens start … end-1. */
  tokens(start: number, end: number): Int32Array {
    return this.#tokens.subarray(start, end);
  }

  /** The keys of its blocks; the tokens to hash them from are `tokens(0, length)`. */
  get chain(): PrefixChain {
    return this.#chain ??= new PrefixChain({
      tenant: this.request.tenant,
      core: this.request.adapter?.digest,
      lane: this.lane.factors,
    });
  }

  /** Whole blocks a prefix may serve: at least one token is left to compute. */
  get usableBlocks(): number {
    return Math.floor((this.#length - 1) / BLOCK_TOKENS);
  }

  /** A number that depends on the cache's content, computed again only when that changed. */
  hit(generation: number, compute: () => number): number {
    if (this.#hit.generation !== generation || this.#hit.length !== this.#length) {
      this.#hit = { generation, length: this.#length, tokens: compute() };
    }
    return this.#hit.tokens;
  }

  /** @throws {Error} `internal: …` for a change the states do not allow. */
  enter(state: SequenceState): void {
    if (!NEXT[this.#state].includes(state)) {
      throw new Error(`internal: sequence ${this.label} cannot go from ${this.#state} to ${state}`);
    }
    this.#state = state;
  }

  /** Another lane, while it waits: its blocks have other keys there. */
  reroute(lane: Lane): void {
    this.lane = lane;
    this.#chain = undefined;
    this.#hit = { generation: -1, length: 0, tokens: 0 };
    this.savedBlocks = 0;
  }

  /** Takes the newest token in: text that became safe, and whether the sequence ends here. */
  push(token: number): TokenOutcome {
    this.#append(token);
    this.sampling.push(token);
    const outcome = this.#outcome(token);
    this.ending = outcome.ending;
    return outcome;
  }

  /** Text that was held back, for an end that brings none of its own. */
  flush(): string {
    const safe = this.#stops.push(this.#detokenizer.finish());
    return (typeof safe === "string" ? safe : safe.before) + this.#stops.finish();
  }

  #outcome(token: number): TokenOutcome {
    const stopReason = this.#stopToken(token);
    if (stopReason !== undefined) return this.#endAtToken(token, stopReason);
    this.matcher?.accept(token);
    const text = this.#detokenizer.push(token);
    const early = this.outputs < this.request.sampling.minTokens;
    const safe = early ? text : this.#stops.push(text);
    if (typeof safe !== "string") return this.#endAtString(safe.before, safe.stop);
    if (this.#length < this.maxLength) return { text: safe, ending: undefined };
    return this.#endAtLength(safe);
  }

  #endAtLength(safe: string): TokenOutcome {
    return { text: safe + this.flush(), ending: { reason: "length" } };
  }

  #endAtString(before: string, stop: string): TokenOutcome {
    const text = this.request.sampling.includeStopInOutput ? before + stop : before;
    return { text, ending: { reason: "stop", stopReason: stop } };
  }

  #endAtToken(token: number, stopReason: number | "eos"): TokenOutcome {
    const shown = this.request.sampling.includeStopInOutput ? this.#detokenizer.push(token) : "";
    const text = this.#stops.finish() + shown + this.#detokenizer.finish();
    const ending: Ending = stopReason === "eos"
      ? { reason: "stop" }
      : { reason: "stop", stopReason };
    return { text, ending };
  }

  /** A grammar ends with EOS whatever `ignoreEos` says: nothing may follow. */
  #stopToken(token: number): number | "eos" | undefined {
    const { ignoreEos, stopTokenIds, minTokens } = this.request.sampling;
    if (this.outputs < minTokens) return undefined;
    if (stopTokenIds.includes(token)) return token;
    const ends = !ignoreEos || this.matcher !== undefined;
    return ends && this.#eosTokens.has(token) ? "eos" : undefined;
  }

  #append(token: number): void {
    if (this.#length === this.#tokens.length) {
      const grown = new Int32Array(Math.max(2 * this.#length, this.#length + 64));
      grown.set(this.#tokens);
      this.#tokens = grown;
    }
    this.#tokens[this.#length++] = token;
  }
}
