/**
 * A batch model without weights. Its keys and values are one number a position, made of token,
 * position and core; a row's logits hash all of them as they lie in the slot, so that any mix-up of
 * slots, cores, positions or cached blocks changes the text. It refuses calls that break the
 * contract of `BatchModel`.
 */
import type {
  BatchModel,
  KvBlock,
  PrefillRow,
  ResidentAdapter,
  Sampled,
  SampleRow,
  StepsAhead,
} from "../../src/executor/model.ts";

/** Tokens of a freed slot whose memory stays for the next row. */
const KEPT_TOKENS = 48;

export interface FakeModelOptions {
  readonly vocabSize: number;
  readonly maxBatch?: number;
  readonly maxContext?: number;
  readonly prefillTokens?: number;
  readonly chunkTokens?: (past: number) => number;
  readonly kvBytesPerToken?: number;
  /** Decode steps that it takes at once, where rows are drawn without the host; default 1. */
  readonly ahead?: number;
  /** Told of each run before it happens; may throw or wait. */
  readonly onRun?: (run: FakeRun) => void | Promise<void>;
}

export type FakeRun =
  | { readonly kind: "prefill"; readonly rows: readonly PrefillRow[] }
  | { readonly kind: "draft"; readonly rows: readonly PrefillRow[] }
  | { readonly kind: "decode"; readonly tokens: readonly number[] };

interface Slot {
  readonly kv: Int32Array;
  written: number;
  /** Of the tokens written last, how many may never be drawn. */
  drafted: number;
  /** Tokens whose memory it has touched and not given back. */
  touched: number;
  core: number | undefined;
}

interface FakeBlock extends KvBlock {
  readonly kv: Int32Array;
  released: boolean;
}

export class FakeModel implements BatchModel {
  readonly vocabSize: number;
  readonly maxBatch: number;
  readonly maxContext: number;
  readonly prefillTokens: number;
  readonly chunkTokens: (past: number) => number;
  readonly kvBytesPerToken: number;
  readonly scoredTokens = 8;
  readonly draftTokens = 8;
  /** Blocks saved and not released. */
  blocks = 0;
  /** Where it takes several steps at once. */
  readonly ahead: StepsAhead | undefined;
  readonly #slots: Slot[];
  readonly #onRun: (run: FakeRun) => void | Promise<void>;
  #logits: Float64Array[] = [];
  #draftLogits: Float64Array[] = [];
  #busy = false;

  constructor(options: FakeModelOptions) {
    this.vocabSize = options.vocabSize;
    this.maxBatch = options.maxBatch ?? 4;
    this.maxContext = options.maxContext ?? 256;
    this.prefillTokens = options.prefillTokens ?? 64;
    this.chunkTokens = options.chunkTokens ?? (() => this.prefillTokens);
    this.kvBytesPerToken = options.kvBytesPerToken ?? 10;
    this.#onRun = options.onRun ?? (() => {});
    const { ahead = 1 } = options;
    this.ahead = ahead === 1 ? undefined : {
      most: (rows) => rows.every(isFree) ? ahead : 1,
      run: (...step) => this.#runAhead(...step),
    };
    this.#slots = Array.from({ length: this.maxBatch }, () => ({
      kv: new Int32Array(this.maxContext),
      written: 0,
      drafted: 0,
      touched: 0,
      core: undefined,
    }));
  }

  prepare(): undefined {}

  setAdapter(slot: number, core: ResidentAdapter | undefined): void {
    this.#idle("setAdapter");
    this.#slot(slot).core = core === undefined ? 1 : hashText(core.digest);
  }

  async prefill(rows: readonly PrefillRow[]): Promise<void> {
    await this.#exclusive(async () => {
      demand(rows.length > 0, "a prefill has rows");
      demand(
        rows.length === 1 || rows.every((row) => row.past === 0),
        "a row with past goes alone",
      );
      demand(new Set(rows.map((row) => row.slot)).size === rows.length, "slots differ");
      await this.#onRun({ kind: "prefill", rows });
      const longest = Math.max(...rows.map(({ tokens }) => tokens.length));
      for (const { slot, past } of rows) this.#touch(slot, past + longest);
      this.#logits = rows.map((row) => this.#prefillRow(row));
    });
  }

  async decode(tokens: ArrayLike<number>, lengths: ArrayLike<number>): Promise<void> {
    await this.#exclusive(async () => {
      demand(tokens.length === lengths.length && tokens.length > 0, "a length for each token");
      demand(tokens.length <= this.maxBatch, "a slot for each token");
      await this.#onRun({ kind: "decode", tokens: Array.from(tokens) });
      this.#logits = Array.from(
        { length: tokens.length },
        (_, slot) => this.#append(slot, lengths[slot] ?? 0, [tokens[slot] ?? 0]),
      );
    });
  }

  async #runAhead(...[first, lengths, rows, uniforms]: Parameters<StepsAhead["run"]>) {
    const steps: number[][] = [];
    for (const [i, step] of uniforms.entries()) {
      await this.decode(steps[i - 1] ?? first, Array.from(lengths, (length) => length + i));
      const wanted = rows.map((row, slot) => ({ ...row, uniform: step[slot] ?? -1 }));
      steps.push((await this.sample(wanted)).map(({ token }) => token));
    }
    return steps;
  }

  async score(row: PrefillRow, next: ArrayLike<number>, top: number): Promise<readonly Sampled[]> {
    const scored: Sampled[] = [];
    await this.#exclusive(async () => {
      demand(row.tokens.length <= this.scoredTokens, "a scored chunk of a fitting length");
      await this.#onRun({ kind: "prefill", rows: [row] });
      const wanted = { row: 0, temperature: 0, uniform: 0, logprobs: top };
      for (const [i, token] of Array.from(row.tokens).entries()) {
        const logits = this.#append(row.slot, row.past + i, [token]);
        if (i < next.length) scored.push(draw(logits, { ...wanted, given: [next[i]] }));
      }
    });
    return scored;
  }

  async draft(row: PrefillRow): Promise<void> {
    await this.#exclusive(async () => {
      demand(row.tokens.length <= this.draftTokens, "a draft of a fitting length");
      demand(row.tokens.length <= this.chunkTokens(row.past), "a chunk of a fitting length");
      await this.#onRun({ kind: "draft", rows: [row] });
      this.#draftLogits = Array.from(
        row.tokens,
        (token, i) => this.#append(row.slot, row.past + i, [token]),
      );
      this.#slot(row.slot).drafted = row.tokens.length - 1;
    });
  }

  sampleDraft(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return Promise.resolve(this.#drawAll(this.#draftLogits, rows));
  }

  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    const sampled = this.#drawAll(this.#logits, rows);
    this.#logits = [];
    return Promise.resolve(sampled);
  }

  #drawAll(logits: readonly Float64Array[], rows: readonly SampleRow[]): Sampled[] {
    this.#idle("sample");
    demand(rows.length > 0, "sampling has rows");
    demand(new Set(rows.map((row) => row.row)).size === rows.length, "logits rows differ");
    return rows.map((row) => draw(logits[row.row], row));
  }

  move(from: number, to: number, length: number): void {
    this.#idle("move");
    const source = this.#slot(from);
    const target = this.#slot(to);
    demand(from !== to && length <= source.written, "a move of written tokens to another slot");
    this.#touch(to, length);
    target.kv.fill(0);
    target.kv.set(source.kv.subarray(0, length));
    target.written = length;
    target.drafted = 0;
    target.core = source.core;
  }

  free(slot: number): void {
    this.#idle("free");
    const freed = this.#slot(slot);
    freed.kv.fill(0);
    freed.written = 0;
    freed.drafted = 0;
    freed.touched = Math.min(freed.touched, KEPT_TOKENS);
    freed.core = undefined;
  }

  residentBytes(slot: number): number {
    return Math.ceil(this.#slot(slot).touched / 16) * 16 * this.kvBytesPerToken;
  }

  trim(slot: number, tokens: number): void {
    const trimmed = this.#slot(slot);
    demand(trimmed.written - trimmed.drafted <= tokens, "no token of a row is given back");
    trimmed.drafted -= Math.max(0, trimmed.written - tokens);
    trimmed.written = Math.min(trimmed.written, tokens);
    trimmed.touched = Math.min(trimmed.touched, tokens);
  }

  checkIntegrity(): void {
    demand(this.#slots.every(({ touched }) => touched <= this.maxContext), "slots within bounds");
  }

  save(slot: number, start: number, end: number): KvBlock {
    this.#idle("save");
    const source = this.#slot(slot);
    demand(start < end && end <= source.written, "a save of written tokens");
    this.blocks++;
    const block: FakeBlock = {
      length: end - start,
      byteLength: (end - start) * this.kvBytesPerToken,
      kv: source.kv.slice(start, end),
      released: false,
      release: () => {
        demand(!block.released, "a block is released once");
        block.released = true;
        this.blocks--;
      },
    };
    return block;
  }

  load(slot: number, start: number, block: KvBlock): void {
    this.#idle("load");
    const target = this.#slot(slot);
    const { kv, released } = block as FakeBlock;
    demand(!released, "a load of a block that is not released");
    demand(target.core !== undefined && start <= target.written, "a load behind written tokens");
    this.#touch(slot, start + kv.length);
    target.kv.set(kv, start);
    target.written = start + kv.length;
    target.drafted = 0;
  }

  #prefillRow({ slot, tokens, past }: PrefillRow): Float64Array {
    const most = Math.min(this.prefillTokens, this.chunkTokens(past));
    demand(tokens.length > 0 && tokens.length <= most, "a chunk of a fitting length");
    return this.#append(slot, past, tokens);
  }

  #append(slot: number, past: number, tokens: ArrayLike<number>): Float64Array {
    const target = this.#slot(slot);
    const { core } = target;
    if (core === undefined) throw new Error(`contract: slot ${slot} has no core`);
    demand(past <= target.written, `slot ${slot} has ${past} tokens`);
    demand(past + tokens.length <= this.maxContext, "the context holds the tokens");
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i] ?? -1;
      demand(token >= 0 && token < this.vocabSize, "tokens of the vocabulary");
      target.kv[past + i] = mix(mix(core, past + i), token);
    }
    target.written = past + tokens.length;
    target.drafted = 0;
    this.#touch(slot, target.written);
    return this.#logitsOf(target);
  }

  #logitsOf({ kv, written }: Slot): Float64Array {
    let state = 7;
    for (let i = 0; i < written; i++) state = mix(state, kv[i] ?? 0);
    return Float64Array.from({ length: this.vocabSize }, (_, token) => {
      const uniform = ((mix(state, token) >>> 0) + 0.5) / 2 ** 32;
      return -2 * Math.log(-Math.log(uniform));
    });
  }

  #touch(slot: number, length: number): void {
    const touched = this.#slot(slot);
    touched.touched = Math.max(touched.touched, length);
  }

  #slot(slot: number): Slot {
    const found = this.#slots[slot];
    if (found === undefined) throw new Error(`contract: slot ${slot} of ${this.maxBatch}`);
    return found;
  }

  #idle(call: string): void {
    demand(!this.#busy, `${call} between runs`);
  }

  async #exclusive(run: () => Promise<void>): Promise<void> {
    this.#idle("a run");
    this.#busy = true;
    try {
      await run();
    } finally {
      this.#busy = false;
    }
  }
}

function isFree({ mask, adjust, given, logprobs }: SampleRow): boolean {
  return [mask, adjust, given, logprobs].every((asked) => asked === undefined);
}

/** Samples one row as the contract describes: exact, over the whole vocabulary. */
function draw(raw: Float64Array | undefined, row: SampleRow): Sampled {
  if (raw === undefined) throw new Error(`contract: row ${row.row} is not among the last logits`);
  demand(row.uniform >= 0 && row.uniform < 1, "a uniform number in [0, 1)");
  const logits = transformed(raw, row);
  const order = [...logits.keys()].sort((a, b) => at(logits, b) - at(logits, a));
  const token = row.temperature === 0 ? order[0] ?? 0 : choose(logits, order, row);
  demand(at(logits, token) > -Infinity, "some token is allowed");
  if (row.logprobs === undefined) return { token };
  const total = Math.log(raw.reduce((sum, logit) => sum + Math.exp(logit), 0));
  const best = [...raw.keys()].sort((a, b) => at(raw, b) - at(raw, a)).slice(0, row.logprobs);
  const top = best.map((each) => ({ token: each, logprob: at(raw, each) - total }));
  const logprobOf = (token: number) => at(raw, token) - total;
  if (row.given === undefined) return { token, logprob: logprobOf(token), top };
  const given = row.given.map((token) => {
    const rank = 1 + raw.filter((logit) => logit > at(raw, token)).length;
    return { token, logprob: logprobOf(token), rank };
  });
  return { token, logprob: logprobOf(token), top, given };
}

function transformed(raw: Float64Array, { adjust, mask }: SampleRow): Float64Array {
  const logits = raw.slice();
  for (let i = 0; i < (adjust?.ids.length ?? 0); i++) {
    const id = adjust?.ids[i] ?? 0;
    const penalty = adjust?.repetition[i] ?? 1;
    const logit = at(logits, id);
    logits[id] = (logit < 0 ? logit * penalty : logit / penalty) + (adjust?.delta[i] ?? 0);
  }
  if (mask !== undefined) {
    demand(mask.length === Math.ceil(raw.length / 32), "a mask of the vocabulary's length");
    for (const token of logits.keys()) {
      if ((((mask[token >> 5] ?? 0) >>> (token & 31)) & 1) === 0) logits[token] = -Infinity;
    }
  }
  return logits;
}

function choose(logits: Float64Array, order: readonly number[], row: SampleRow): number {
  const best = at(logits, order[0] ?? 0);
  let kept = order.map((token) => ({
    token,
    weight: Math.exp((at(logits, token) - best) / row.temperature),
  })).filter(({ weight }) => weight > 0);
  kept = kept.slice(0, row.topK ?? kept.length).filter(({ weight }) => weight >= (row.minP ?? 0));
  const total = kept.reduce((sum, { weight }) => sum + weight, 0);
  let cumulative = 0;
  kept = kept.filter(({ weight }) => (cumulative += weight) - weight < (row.topP ?? 1) * total);
  let rest = row.uniform * kept.reduce((sum, { weight }) => sum + weight, 0);
  for (const { token, weight } of kept) if ((rest -= weight) < 0) return token;
  return kept[kept.length - 1]?.token ?? 0;
}

function at(values: Float64Array, index: number): number {
  return values[index] ?? NaN;
}

/** A 32-bit hash of a state and a value (murmur3's finalizer). */
function mix(state: number, value: number): number {
  let hash = Math.imul(state ^ 0x9E3779B9, 0x85EBCA6B) ^ Math.imul(value + 1, 0xC2B2AE35);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85EBCA6B);
  hash = Math.imul(hash ^ (hash >>> 13), 0xC2B2AE35);
  return hash ^ (hash >>> 16);
}

function hashText(text: string): number {
  let hash = 3;
  for (const character of text) hash = mix(hash, character.charCodeAt(0));
  return hash;
}

function demand(holds: boolean, rule: string): void {
  if (!holds) throw new Error(`contract: broken rule "${rule}"`);
}
