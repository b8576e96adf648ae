/**
 * What training asks of a model: examples with a loss weight for each token and perhaps what a teacher
 * says of it, micro-batches of rows
 * that belong to one trainable each, and their losses and gradients. They are computed in
 * `gradient_model.ts` and `lotr_model.ts`, and used by `trainer.ts`.
 */

/** One training row: tokens, and how much predicting each of them counts. */
export interface Example {
  readonly tokens: Int32Array;
  /** Of the same length: weight of the loss of predicting tokens[i] from those before; 0 = none. */
  readonly weights: Float32Array;
  /** Line of the file it came from, from 1. */
  readonly line: number;
  /** What a teacher says where tokens carry loss; undefined = the tokens themselves are learnt. */
  readonly teaching?: Teaching;
}

/** A teacher's next-token distributions at the P positions of a row that carry loss, in their order. */
export interface Teaching {
  /** K, of each position. */
  readonly count: number;
  /** [P, K], the likeliest first, each once. */
  readonly tokens: Int32Array;
  /** [P, K + 1]: their probabilities and, last, that of all others; each position's sum to 1. */
  readonly shares: Float32Array;
}

/**
 * How many tokens of a row must be computed: those before the last one that carries loss. Nothing
 * reads what comes after; at least 1.
 */
export function computedLength({ weights }: Example): number {
  return Math.max(1, weights.findLastIndex((weight) => weight !== 0));
}

/** Parameters under training at this moment, as one flat vector. */
export interface TrainableState {
  /** At most the factor set's rank. */
  readonly rank: number;
  /**
   * Core method: G, [layers, modules, rank, rank] row major, as a core stores it (scale not folded
   * in). LoTR method: A of each site, then B of each module, then G.
   */
  readonly parameters: Float32Array;
}

/** A row of a micro-batch. */
export interface BatchRow {
  readonly example: Example;
  /** Index into the micro-batch's trainables. */
  readonly trainable: number;
}

/** Rows of one or many trainables that share one forward and backward pass. */
export interface MicroBatch {
  readonly rows: readonly BatchRow[];
  readonly trainables: readonly TrainableState[];
}

/** Sums over one row. */
export interface RowLoss {
  /** Σ weight · -log p(token), or of divergences from a teacher; nats. */
  readonly loss: number;
  /** Σ weight. */
  readonly weight: number;
  /** Tokens of positive weight that were the most likely one; with a teacher, its likeliest that were. */
  readonly hits: number;
  /** Tokens of positive weight. */
  readonly tokens: number;
}

export interface Gradients {
  readonly rows: readonly RowLoss[];
  /** For each trainable, d (Σ of its rows' loss) / d parameters, in their layout; not divided. */
  readonly gradients: readonly Float32Array[];
}

/**
 * A frozen model that can be differentiated by its trainables. Calls come one at a time. A row's
 * result does not depend on its neighbours beyond rounding (1e-5 relative).
 */
export interface GradientModel {
  /** Most tokens (rows × longest row) of a micro-batch that it runs at its best speed. */
  readonly maxTokens: number;
  /** Most tokens of one row. */
  readonly maxContext: number;
  /**
   * Forward and backward.
   * @throws {DOMException} AbortError where `signal` fires between two segments.
   */
  gradients(batch: MicroBatch, signal?: AbortSignal): Promise<Gradients>;
  /** Forward only. */
  losses(batch: MicroBatch, signal?: AbortSignal): Promise<readonly RowLoss[]>;
  release(): void;
}
