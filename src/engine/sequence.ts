/**
 * A sequence (one sample of one request) and the lane (a model with its slots) that it waits for or
 * runs in. The two refer to each other, hence one file.
 *
 * ```
 * loading → waiting → prefill → running → finished
 *              ↑____________________|   (preempted: tokens kept, keys and values dropped)
 * ```
 * Every state may go to `finished`. `running` means that all tokens but the newest are computed.
 */
import type { BatchModel } from "../executor/model.ts";
import type { TokenMatcher } from "../grammar/matcher.ts";
import { BLOCK_TOKENS, PrefixChain } from "./kv_memory.ts";
import type { Account } from "./policy/accounts.ts";
import { Pace } from "./policy/pace.ts";
import type { CoreLease, GenerationRequest, TokenLogprob } from "./request/request.ts";
import {
  type Ending,
  type GenerationStream,
  OutputText,
  type TokenOutcome,
  type TokenTexts,
} from "./request/output.ts";
import { ReasoningBound } from "./request/reasoning_bound.ts";
import { SampleState } from "./request/sampling.ts";

export type SequenceState = "loading" | "waiting" | "prefill" | "running" | "finished";

const NEXT: Readonly<Record<SequenceState, readonly SequenceState[]>> = {
  loading: ["waiting", "finished"],
  waiting: ["prefill", "finished"],
  prefill: ["running", "waiting", "finished"],
  running: ["waiting", "finished"],
  finished: [],
};

/** What the samples of one request have in common. */
export interface SampleGroup {
  readonly request: GenerationRequest;
  /** Its tenant's. */
  readonly account: Account;
  /** Where the deltas of all samples go. */
  readonly stream: GenerationStream;
  readonly sequences: readonly Sequence[];
  readonly seed: number;
  /** The model's, which every lane has. */
  readonly vocabSize: number;
  /** Tokens at which a sample ends for length: prompt + output. */
  readonly maxLength: number;
  /** Milliseconds (`performance.now()`). */
  readonly arrivedAt: number;
  readonly texts: TokenTexts;
  readonly eosTokens: ReadonlySet<number>;
}

export interface SequenceOptions {
  /** Which of the request's n samples, from 0. */
  readonly index: number;
  /**
   * Counts up over all sequences; a preempted one keeps its number and so comes back to the front.
   */
  readonly arrival: number;
  readonly lane: Lane;
}

export class Sequence {
  readonly group: SampleGroup;
  readonly request: GenerationRequest;
  readonly account: Account;
  readonly index: number;
  readonly arrival: number;
  readonly sampling: SampleState;
  /** The lane it waits for or runs in; it may change while the sequence waits. */
  lane: Lane;
  /** Its row in the lane while it is in prefill or running. */
  slot: number | undefined;
  /** Tokens with keys and values in the slot. */
  computed = 0;
  /** Bytes of keys and values reserved for the row. */
  reserved = 0;
  /** How often it was put back for lack of memory. */
  preemptions = 0;
  /** Prompt tokens that the first admission found in the prefix cache. */
  cachedTokens: number | undefined;
  /** Of prompt tokens from the second on, as far as they are scored. */
  readonly promptLogprobs: TokenLogprob[] = [];
  lease: CoreLease | undefined;
  matcher: TokenMatcher | undefined;
  /** The text that its grammar forces now is spelled otherwise than was foreseen. */
  strays = false;
  /** Asked to leave; it does at the next boundary between runs. */
  cancelled = false;
  admittedAt: number | undefined;
  firstTokenAt: number | undefined;
  lastTokenAt: number | undefined;
  /** Why it ends; known with its last token. */
  ending: Ending | undefined;
  /**
   * Starts the request's other samples, which wait for this one's prefix; undefined where none do.
   */
  startFollowers: (() => void) | undefined;

  #state: SequenceState = "loading";
  #tokens: Int32Array;
  #length: number;
  #chain: PrefixChain | undefined;
  readonly #output: OutputText;

  constructor(group: SampleGroup, { index, arrival, lane }: SequenceOptions) {
    const { request, seed, eosTokens } = group;
    const { prompt, sampling: params } = request;
    this.group = group;
    this.request = request;
    this.account = group.account;
    this.index = index;
    this.arrival = arrival;
    this.lane = lane;
    this.#tokens = Int32Array.from(prompt);
    this.#length = prompt.length;
    const stopTokens = [...eosTokens, ...params.stopTokenIds];
    const { vocabSize, texts } = group;
    const { reasoningBudget: budget } = params;
    const bound = budget && new ReasoningBound(budget, (token) => texts.spelled(token));
    const options = { params, seed, sample: index, prompt, stopTokens, vocabSize, bound };
    this.sampling = new SampleState(options);
    this.#output = new OutputText(group.texts, eosTokens, params);
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

  /** Whether its prompt is still to be scored: then nothing is taken from the prefix cache. */
  get scores(): boolean {
    const { promptLogprobs, prompt } = this.request;
    return promptLogprobs !== undefined && this.index === 0 &&
      this.promptLogprobs.length < prompt.length - 1;
  }

  get lastToken(): number {
    return this.#tokens[this.#length - 1] ?? 0;
  }

  /** A view of tokens start … end-1. */
  tokens(start: number, end: number): Int32Array {
    return this.#tokens.subarray(start, end);
  }

  /** Its blocks in the prefix cache; their keys are hashed from `tokens(0, length)`. */
  get chain(): PrefixChain {
    return this.#chain ??= new PrefixChain({
      tenant: this.request.tenant,
      core: this.request.adapter?.digest,
      lane: this.lane.factors,
    });
  }

  /** Whole blocks that the prefix cache may serve: at least one token is left to compute. */
  get usableBlocks(): number {
    return Math.floor((this.#length - 1) / BLOCK_TOKENS);
  }

  /** @throws {Error} `internal: …` for a change the states do not allow. */
  enter(state: SequenceState): void {
    if (!NEXT[this.#state].includes(state)) {
      throw new Error(`internal: sequence ${this.label} cannot go from ${this.#state} to ${state}`);
    }
    this.#state = state;
  }

  /** Changes the lane of a sequence that waits: its blocks have other keys there. */
  reroute(lane: Lane): void {
    this.lane = lane;
    this.#chain = undefined;
  }

  /** Takes the newest token in: text that became safe, and whether the sequence ends here. */
  push(token: number): TokenOutcome {
    this.#append(token);
    this.sampling.push(token);
    let outcome = this.#output.push(token, this.outputs);
    if (outcome.ending === undefined && this.#length >= this.group.maxLength) {
      const text = outcome.text + this.#output.finish();
      outcome = { text, ending: { reason: "length" } };
    }
    if (outcome.ending === undefined) this.matcher?.accept(token);
    this.ending = outcome.ending;
    return outcome;
  }

  /** Text that was held back, for an end that brings none of its own. */
  flush(): string {
    return this.#output.finish();
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

export interface LaneShape {
  readonly slots: number;
  /** What its model takes, keys and values aside. */
  readonly bytes: number;
}

/**
 * One model (the base joined with one factor set, or the base alone) and the sequences in its
 * slots. Slots in use are always 0 … count-1; when a sequence leaves, the last one moves into its
 * place. Trap: a lane that is not open yet has no model.
 */
export class Lane {
  /** Digest of the factor set whose cores run here; undefined = base rows only. */
  readonly factors: string | undefined;
  readonly bytes: number;
  /** It is being removed and takes no new sequences. */
  closing = false;
  /** When a request last named it: a number that counts up over all lanes. */
  usedAt = 0;
  /** Whether the last prefill continued a long prompt: the next one lets first prompts pass. */
  continued = false;
  /** How long a prompt's chunks are while rows decode. */
  readonly pace = new Pace();
  readonly #slots: number;
  readonly #rows: Sequence[] = [];
  readonly #tokens: Int32Array;
  readonly #lengths: Int32Array;
  #model: BatchModel | undefined;

  constructor(factors: string | undefined, { slots, bytes }: LaneShape) {
    this.factors = factors;
    this.bytes = bytes;
    this.#slots = slots;
    this.#tokens = new Int32Array(slots);
    this.#lengths = new Int32Array(slots);
  }

  /** Gives it its model. @throws {RangeError} where that has another number of slots. */
  open(model: BatchModel): this {
    if (model.maxBatch !== this.#slots) {
      throw new RangeError(`internal: a lane of ${this.#slots} slots got ${model.maxBatch}`);
    }
    this.#model = model;
    return this;
  }

  get isOpen(): boolean {
    return this.#model !== undefined;
  }

  get model(): BatchModel {
    if (this.#model === undefined) throw new Error("internal: a lane without a model is used");
    return this.#model;
  }

  /** The sequence of each slot in use. */
  get rows(): readonly Sequence[] {
    return this.#rows;
  }

  get freeSlots(): number {
    return this.#slots - this.#rows.length;
  }

  /** Gives a sequence the next slot and its core; without keys and values yet. */
  admit(sequence: Sequence): number {
    if (this.freeSlots <= 0) throw new Error(`internal: no slot for ${sequence.label}`);
    const slot = this.#rows.length;
    this.#rows.push(sequence);
    sequence.slot = slot;
    sequence.computed = 0;
    this.model.setAdapter(slot, sequence.lease?.core);
    return slot;
  }

  /** Takes sequences out, highest slot first, so that none of them is moved on the way. */
  remove(sequences: readonly Sequence[]): void {
    const slots = sequences.map((sequence) => this.#slotOf(sequence)).sort((a, b) => b - a);
    for (const slot of slots) this.#vacate(slot);
  }

  /**
   * Input of one decode run: all rows up to the last running one. A row that is still in prefill
   * below it takes part with a token whose keys and values its next chunk overwrites.
   */
  decodeInput(): { readonly tokens: Int32Array; readonly lengths: Int32Array } {
    let count = 0;
    for (const [slot, row] of this.#rows.entries()) {
      if (row.state === "running") count = slot + 1;
      this.#tokens[slot] = row.lastToken;
      this.#lengths[slot] = row.computed;
    }
    return { tokens: this.#tokens.subarray(0, count), lengths: this.#lengths.subarray(0, count) };
  }

  #slotOf(sequence: Sequence): number {
    const { slot } = sequence;
    if (slot === undefined || this.#rows[slot] !== sequence) {
      throw new Error(`internal: ${sequence.label} is not in slot ${slot} of its lane`);
    }
    return slot;
  }

  #vacate(slot: number): void {
    const last = this.#rows.pop();
    const lastSlot = this.#rows.length;
    if (last !== undefined && slot !== lastSlot) {
      const leaving = this.#rows[slot];
      if (leaving !== undefined) leaving.slot = undefined;
      this.#rows[slot] = last;
      last.slot = slot;
      this.model.move(lastSlot, slot, last.computed);
    } else if (last !== undefined) {
      last.slot = undefined;
    }
    this.model.free(lastSlot);
  }
}
