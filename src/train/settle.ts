/**
 * What "auto" becomes: epochs and batch size from the number of rows, and the learning rate from the
 * factor set. Adam moves every element of G by about the rate, so the weight's change s · A · ΔG · B
 * grows with the rate, with s, with the lengths of A's columns and B's rows, and with the rank; the
 * rule takes all four out, so that one default serves every factor set and every rank.
 */
import { type LinearHook, type ModuleName, SITE_OF } from "../models/hook.ts";

/** What depends on the number of rows, as asked. */
export interface AskedCounts {
  readonly epochs: number | "auto";
  readonly batchSize: number | "auto";
  readonly learningRateMultiplier: number | "auto";
}

export interface SettledCounts {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRateMultiplier: number;
}

/** Epochs of a set that is neither tiny nor huge, as OpenAI's. */
const USUAL_EPOCHS = 3;
/** A tiny set is repeated until about so many rows were seen, */
const FEWEST_ROWS_SEEN = 300;
/** but no more often than this: */
const MOST_EPOCHS = 10;
/** and of a huge one at most so many rows are seen, at least once each. */
const MOST_ROWS_SEEN = 75_000;
/** A step takes a fiftieth of the rows, */
const BATCH_SHARE = 0.02;
/** within these bounds: fewer make steps noisy, more make them few. */
const BATCH_BOUNDS = { least: 4, most: 16 };

/**
 * Settles "auto" for a training set of `rows` rows. Batch size: a fiftieth of the rows, 4 to 16.
 * Epochs: 3; more, up to 10, where 3 would see fewer than 300 rows; fewer beyond 75,000.
 */
export function settle(asked: AskedCounts, rows: number): SettledCounts {
  const { epochs, batchSize, learningRateMultiplier } = asked;
  return {
    epochs: epochs === "auto" ? autoEpochs(rows) : epochs,
    batchSize: Math.min(batchSize === "auto" ? autoBatch(rows) : batchSize, rows),
    learningRateMultiplier: learningRateMultiplier === "auto" ? 1 : learningRateMultiplier,
  };
}

function autoEpochs(rows: number): number {
  const more = Math.min(MOST_EPOCHS, Math.ceil(FEWEST_ROWS_SEEN / rows));
  const fewer = Math.max(1, Math.floor(MOST_ROWS_SEEN / rows));
  return Math.min(Math.max(USUAL_EPOCHS, more), fewer);
}

function autoBatch(rows: number): number {
  const { least, most } = BATCH_BOUNDS;
  return Math.max(least, Math.min(most, Math.round(rows * BATCH_SHARE)));
}

/** Good for orthonormal factors at s = 1, `REFERENCE_RANK` and `REFERENCE_MODULES`. */
export const REFERENCE_RATE = 5e-3;
export const REFERENCE_RANK = 32;
export const REFERENCE_MODULES = 2;

/**
 * The rate falls with rank to this power. Between independent signs of ΔG's elements (its spectral
 * norm grows with √rank: 0.5) and elements that agree (with the rank: 1).
 */
export const RANK_EXPONENT = 0.5;

/**
 * The rate falls with the number of adapted linears of a layer to this power: 5e-3 is good for two,
 * 3e-3 for all seven.
 */
export const MODULE_EXPONENT = 0.4;

/** Where A and B train too, one update moves an element by about this share of a typical one. */
export const FACTOR_SHARE = 0.02;

/** What the rule looks at. */
export interface RateShape {
  /** Rank of the core, k: the first k columns of A and rows of B count. */
  readonly rank: number;
  /** s of y = x·W + s·x·A·G·B. */
  readonly scale: number;
}

/**
 * The peak learning rate of a core's elements: 5e-3 for orthonormal factors of rank 32 on two
 * linears.
 * @throws {RangeError} where A or B of a linear is zero in the columns and rows that are used.
 */
export function coreRate(factors: LinearHook, { rank, scale }: RateShape): number {
  const { modules } = factors;
  const reach = modules.map((module) => Math.log(branchNorm(factors, module, rank)));
  const norm = Math.exp(reach.reduce((sum, value) => sum + value, 0) / modules.length);
  if (!Number.isFinite(1 / norm)) {
    throw new RangeError(
      `Cannot train on factor set ${factors.digest}: the norms of A's columns and B's rows ` +
        `multiply to ${norm}, a positive number is wanted`,
    );
  }
  return REFERENCE_RATE *
    (REFERENCE_RANK / rank) ** RANK_EXPONENT *
    (REFERENCE_MODULES / modules.length) ** MODULE_EXPONENT /
    (scale * norm);
}

/** The peak learning rate of a factor's elements, from their root mean square. */
export function factorRate(factor: Float32Array): number {
  return FACTOR_SHARE * rootMeanSquare(factor);
}

/** (Root mean square norm of A's first k columns) · (the same of B's first k rows). */
function branchNorm(factors: LinearHook, module: ModuleName, rank: number): number {
  const a = factors.a(SITE_OF[module]);
  const b = factors.b(module);
  const [inputs, outputs] = [a.length / factors.rank, b.length / factors.rank];
  let squares = 0;
  for (let row = 0; row < inputs; row++) {
    for (let column = 0; column < rank; column++) squares += a[row * factors.rank + column] ** 2;
  }
  const columns = Math.sqrt(squares / rank);
  return columns * rootMeanSquare(b.subarray(0, rank * outputs)) * Math.sqrt(outputs);
}

function rootMeanSquare(values: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i] * values[i];
  return Math.sqrt(squares / values.length);
}
