/**
 * A gradient model without a network: the next token's logits are a table's row of the token before,
 * a base table plus the parameters, so that losses and gradients are closed formulas in double
 * precision. It keeps what it was asked, and refuses what the contract forbids.
 */
import { gridCost } from "../../src/train/micro_batches.ts";
import { gaussian } from "../../src/util/random.ts";
import {
  type BatchRow,
  computedLength,
  type Example,
  type GradientModel,
  type Gradients,
  type MicroBatch,
  type RowLoss,
  type TrainableState,
} from "../../src/train/gradients/model.ts";

export const VOCABULARY = 8;

export interface FakeGradientModelOptions {
  readonly maxTokens?: number;
  readonly maxContext?: number;
  /**
   * Trailing parameters that are the table, repeated over it; those before scale it by 1 + their
   * mean. Undefined = all.
   */
  readonly table?: (trainable: TrainableState) => number;
  /** Called before each run; may throw or wait. */
  readonly before?: (batch: MicroBatch, kind: "gradients" | "losses") => void | Promise<void>;
}

export class FakeGradientModel implements GradientModel {
  readonly maxTokens: number;
  readonly maxContext: number;
  readonly batches: MicroBatch[] = [];
  released = 0;
  readonly #options: FakeGradientModelOptions;
  readonly #base = gaussian(7, 1, VOCABULARY ** 2);
  #busy = false;

  constructor(options: FakeGradientModelOptions = {}) {
    this.#options = options;
    this.maxTokens = options.maxTokens ?? 64;
    this.maxContext = options.maxContext ?? 32;
  }

  async gradients(batch: MicroBatch, signal?: AbortSignal): Promise<Gradients> {
    await this.#enter(batch, "gradients", signal);
    const gradients = batch.trainables.map(({ parameters }) => new Float64Array(parameters.length));
    const rows = batch.rows.map((row) => this.#row(batch, row, gradients[row.trainable]));
    return { rows, gradients: gradients.map((sum) => Float32Array.from(sum)) };
  }

  async losses(batch: MicroBatch, signal?: AbortSignal): Promise<readonly RowLoss[]> {
    await this.#enter(batch, "losses", signal);
    return batch.rows.map((row) => this.#row(batch, row));
  }

  release(): void {
    this.released++;
  }

  async #enter(
    batch: MicroBatch,
    kind: "gradients" | "losses",
    signal?: AbortSignal,
  ): Promise<void> {
    if (this.released > 0) throw new Error("Cannot run: the model is released");
    if (this.#busy) throw new Error("Cannot run: a run is under way");
    checkBatch(batch, this);
    this.batches.push(batch);
    this.#busy = true;
    try {
      await this.#options.before?.(batch, kind);
      signal?.throwIfAborted();
    } finally {
      this.#busy = false;
    }
  }

  #row(batch: MicroBatch, { example, trainable }: BatchRow, gradient?: Float64Array): RowLoss {
    const state = batch.trainables[trainable];
    const sums = { loss: 0, weight: 0, hits: 0, tokens: 0 };
    example.tokens.forEach((token, i) => {
      const weight = example.weights[i];
      if (i === 0 || weight === 0) return;
      const before = example.tokens[i - 1];
      const logits = this.#logits(state, before);
      const probabilities = softmax(logits);
      sums.loss -= weight * Math.log(probabilities[token]);
      sums.weight += weight;
      sums.tokens++;
      if (logits[token] === Math.max(...logits)) sums.hits++;
      if (gradient !== undefined) {
        const slopes = probabilities.map((p, j) => weight * (p - (j === token ? 1 : 0)));
        this.#pull(state, before, slopes, gradient);
      }
    });
    return sums;
  }

  #logits(state: TrainableState, before: number): number[] {
    const { head, scale, at } = this.#layout(state);
    return Array.from({ length: VOCABULARY }, (_, j) =>
      this.#base[before * VOCABULARY + j] +
      scale * state.parameters[head + at(before, j)]);
  }

  #pull(state: TrainableState, before: number, slopes: number[], gradient: Float64Array): void {
    const { head, scale, at } = this.#layout(state);
    slopes.forEach((slope, j) => {
      const place = head + at(before, j);
      gradient[place] += slope * scale;
      for (let k = 0; k < head; k++) gradient[k] += slope * state.parameters[place] / head;
    });
  }

  #layout(state: TrainableState) {
    const size = this.#options.table?.(state) ?? state.parameters.length;
    const head = state.parameters.length - size;
    const sum = state.parameters.subarray(0, head).reduce((total, value) => total + value, 0);
    return {
      head,
      scale: 1 + (head === 0 ? 0 : sum / head),
      at: (before: number, j: number) => (before * VOCABULARY + j) % size,
    };
  }
}

/** Rows over the fake's vocabulary whose next token is `rule` of the one before, with some noise. */
export function fakeExamples(
  count: number,
  { seed = 1, rule = (token: number) => (token * 3 + 1) % VOCABULARY, longest = 12 } = {},
): Example[] {
  const draws = gaussian(seed, 5, count * (longest + 2)).map(Math.abs);
  return Array.from({ length: count }, (_, row) => {
    const draw = (i: number) => draws[row * (longest + 2) + i] * 1e4;
    const length = 3 + Math.floor(draw(0)) % (longest - 2);
    const tokens = new Int32Array(length);
    tokens[0] = Math.floor(draw(1)) % VOCABULARY;
    for (let i = 1; i < length; i++) {
      const noisy = Math.floor(draw(i + 1)) % 7 === 0;
      tokens[i] = noisy ? Math.floor(draw(i + 1) / 7) % VOCABULARY : rule(tokens[i - 1]);
    }
    const weights = Float32Array.from(tokens, (_, i) => i === 0 ? 0 : i % 3 === 0 ? 0.5 : 1);
    return { tokens, weights, line: row + 1 };
  });
}

function softmax(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

function checkBatch({ rows, trainables }: MicroBatch, model: GradientModel): void {
  const lengths = rows.map(({ example }) => computedLength(example));
  const longest = Math.max(...lengths);
  const used = lengths.reduce((sum, length) => sum + length);
  const cost = gridCost(used, rows.length * longest);
  if (rows.length === 0 || longest > model.maxContext) {
    throw new RangeError(`Cannot run ${rows.length} rows of up to ${longest} tokens`);
  }
  if (rows.length > 1 && cost > model.maxTokens) {
    throw new RangeError(`Cannot run ${cost} tokens: at most ${model.maxTokens} are wanted`);
  }
  const owners = new Set(rows.map(({ trainable }) => trainable));
  if (owners.size !== trainables.length || rows.some((row) => !(row.trainable in trainables))) {
    throw new RangeError(
      `Cannot run rows of ${owners.size} trainables: ${trainables.length} given`,
    );
  }
}
