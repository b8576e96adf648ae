/**
 * One sequence's side of sampling: its uniform numbers, and its penalties and biases as sparse
 * changes to the logits, updated with each token.
 */
import type { SampleRow } from "../../executor/model.ts";
import { uniformAt } from "../../executor/philox.ts";
import type { SamplingParams } from "./request.ts";

/** Sparse logit changes of one sequence: entry i concerns `ids[i]`. */
class LogitAdjustments {
  ids = new Int32Array(16);
  delta = new Float32Array(16);
  repetition = new Float32Array(16);
  size = 0;
  readonly #entries = new Map<number, number>();

  /** The entry of a token, made neutral where it is new. */
  entry(token: number): number {
    const known = this.#entries.get(token);
    if (known !== undefined) return known;
    if (this.size === this.ids.length) this.#grow();
    const at = this.size++;
    this.#entries.set(token, at);
    this.ids[at] = token;
    this.repetition[at] = 1;
    return at;
  }

  add(token: number, delta: number): void {
    const at = this.entry(token);
    this.delta[at] = (this.delta[at] ?? 0) + delta;
  }

  view(): NonNullable<SampleRow["adjust"]> {
    return {
      ids: this.ids.subarray(0, this.size),
      delta: this.delta.subarray(0, this.size),
      repetition: this.repetition.subarray(0, this.size),
    };
  }

  #grow(): void {
    const capacity = 2 * this.ids.length;
    this.ids = copyInto(new Int32Array(capacity), this.ids);
    this.delta = copyInto(new Float32Array(capacity), this.delta);
    this.repetition = copyInto(new Float32Array(capacity), this.repetition);
  }
}

/**
 * The one row object of a sequence, rewritten for each step; the model reads it during `sample`.
 */
interface MutableRow extends SampleRow {
  row: number;
  uniform: number;
  adjust?: NonNullable<SampleRow["adjust"]>;
  mask?: Int32Array;
}

export interface SampleStateOptions {
  readonly params: SamplingParams;
  readonly seed: number;
  /** Which of the request's n samples. */
  readonly sample: number;
  readonly prompt: ArrayLike<number>;
  /** Tokens that end the text; they cannot be drawn before `minTokens` tokens are out. */
  readonly stopTokens: Iterable<number>;
}

/** Builds one sequence's `SampleRow` for each step. */
export class SampleState {
  readonly #params: SamplingParams;
  readonly #seed: number;
  readonly #sample: number;
  readonly #row: MutableRow;
  readonly #adjust = new LogitAdjustments();
  readonly #counted = new Set<number>();
  readonly #barred: readonly number[];
  #outputs = 0;

  constructor(options: SampleStateOptions) {
    const { params } = options;
    this.#params = params;
    this.#seed = options.seed;
    this.#sample = options.sample;
    this.#row = {
      row: 0,
      temperature: params.temperature,
      uniform: 0,
      ...(params.topK > 0 ? { topK: params.topK } : {}),
      ...(params.topP < 1 ? { topP: params.topP } : {}),
      ...(params.minP > 0 ? { minP: params.minP } : {}),
      ...(params.logprobs === undefined ? {} : { logprobs: params.logprobs }),
    };
    for (const [token, bias] of params.logitBias) this.#adjust.add(token, bias);
    if (params.repetitionPenalty !== 1) this.#penalizePrompt(options.prompt);
    this.#barred = params.minTokens > 0 ? [...new Set(options.stopTokens)] : [];
    for (const token of this.#barred) this.#adjust.add(token, -Infinity);
  }

  /** Output tokens seen so far. */
  get outputs(): number {
    return this.#outputs;
  }

  /** The row for logits row `row`; valid until the next call. */
  row(row: number, mask: Int32Array | undefined): SampleRow {
    this.#row.row = row;
    this.#row.uniform = uniformAt(this.#seed, this.#sample, this.#outputs);
    if (this.#adjust.size > 0) this.#row.adjust = this.#adjust.view();
    if (mask !== undefined) this.#row.mask = mask;
    return this.#row;
  }

  /** Counts a drawn token into the penalties. */
  push(token: number): void {
    const { presencePenalty, frequencyPenalty, repetitionPenalty, minTokens } = this.#params;
    this.#outputs++;
    if (this.#outputs === minTokens) this.#admitStops();
    if (frequencyPenalty !== 0) this.#adjust.add(token, -frequencyPenalty);
    if (presencePenalty === 0 && repetitionPenalty === 1) return;
    if (this.#counted.has(token)) return;
    this.#counted.add(token);
    if (presencePenalty !== 0) this.#adjust.add(token, -presencePenalty);
    if (repetitionPenalty !== 1) this.#repeat(token);
  }

  #penalizePrompt(prompt: ArrayLike<number>): void {
    for (let i = 0; i < prompt.length; i++) this.#repeat(prompt[i] ?? 0);
  }

  #repeat(token: number): void {
    const at = this.#adjust.entry(token);
    this.#adjust.repetition[at] = this.#params.repetitionPenalty;
  }

  /** Barred tokens were never drawn, so no penalty applies to them: only their bias. */
  #admitStops(): void {
    for (const token of this.#barred) {
      const at = this.#adjust.entry(token);
      this.#adjust.delta[at] = this.#params.logitBias.get(token) ?? 0;
    }
  }
}

function copyInto<T extends Int32Array | Float32Array>(target: T, source: T): T {
  target.set(source);
  return target;
}
