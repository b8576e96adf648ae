/**
 * How a job is planned, as pure arithmetic: what "auto" becomes, how steps and evaluations lie in its
 * epochs and in which order rows come, and the learning rates. All of it follows from seed, epoch and
 * step, so that a resumed job finds its place again.
 *
 * The peak rate is a rule: Adam moves every element of G by about the rate, so the weight's change
 * s · A · ΔG · B grows with the rate, with s, with the lengths of A's columns and B's rows, and with the
 * rank. The rule takes all four out, so that one default serves every factor set and every rank.
 */
import { type LinearHook, type ModuleName, SITE_OF } from "../models/hook.ts";
import { streamKey, uniformOf } from "../util/random.ts";

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

/** How a job's steps lie in its epochs. */
export interface Pace {
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  /** Evenly spread, the last at the epoch's end. */
  readonly evaluationsPerEpoch: number;
}

/** Evaluations of an epoch, where they cost little beside its steps. */
const USUAL_EVALUATIONS = 3;
/** Steps between evaluations: fewer say little new for what they cost, */
const FEWEST_STEPS_BETWEEN = 8;
/** more leave a long epoch blind. */
const MOST_STEPS_BETWEEN = 200;
/** Tokens forward cost a third of tokens forward and backward; evaluation may take a quarter. */
const STEP_TOKENS_PER_EVALUATED = 4 / 3;

/** Steps and evaluations for rows of so many tokens; tokens are a measure of time here. */
export function paceOf(
  counts: SettledCounts,
  rows: number,
  tokens: { readonly train: number; readonly evaluated: number },
): Pace {
  const stepsPerEpoch = Math.ceil(rows / counts.batchSize);
  const worth = STEP_TOKENS_PER_EVALUATED * tokens.evaluated / (tokens.train / stepsPerEpoch);
  const between = Math.max(
    FEWEST_STEPS_BETWEEN,
    Math.min(MOST_STEPS_BETWEEN, stepsPerEpoch / USUAL_EVALUATIONS),
    worth,
  );
  const evaluationsPerEpoch = Math.max(1, Math.floor(stepsPerEpoch / between));
  return { epochs: counts.epochs, stepsPerEpoch, evaluationsPerEpoch };
}

/** Where a step lies: its epoch and the part of the epoch's rows that are its batch. */
export interface StepPlace {
  /** From 0. */
  readonly epoch: number;
  /** Batches of an epoch differ by at most one row. */
  readonly from: number;
  readonly to: number;
}

/** @param step from 0 */
export function placeOf({ stepsPerEpoch }: Pace, rows: number, step: number): StepPlace {
  const epoch = Math.floor(step / stepsPerEpoch);
  const at = step % stepsPerEpoch;
  return {
    epoch,
    from: Math.floor(at * rows / stepsPerEpoch),
    to: Math.floor((at + 1) * rows / stepsPerEpoch),
  };
}

/** Whether an evaluation follows when `done` steps are done. */
export function evaluationAfter(
  { stepsPerEpoch, evaluationsPerEpoch }: Pace,
  done: number,
): boolean {
  const passed = (steps: number) => Math.floor(steps * evaluationsPerEpoch / stepsPerEpoch);
  return done > 0 && passed(done) > passed(done - 1);
}

export type ScheduleShape = "cosine" | "linear" | "constant";

export interface ScheduleOptions {
  readonly shape: ScheduleShape;
  /** Share of all steps, 0 to 1, over which the rate rises to its peak. */
  readonly warmup: number;
  /** Steps of the whole job. */
  readonly steps: number;
}

/**
 * The rate of a step as a share of the peak, in (0, 1]. The first step of a warm-up of w steps has
 * 1 / w; the fall reaches 0 one step after the last, so that no step is wasted.
 *
 * @param step from 0
 */
export function scheduleAt({ shape, warmup, steps }: ScheduleOptions, step: number): number {
  const rising = Math.min(Math.round(warmup * steps), steps - 1);
  if (step < rising) return (step + 1) / rising;
  const progress = (step - rising) / (steps - rising);
  switch (shape) {
    case "cosine":
      return (1 + Math.cos(Math.PI * progress)) / 2;
    case "linear":
      return 1 - progress;
    case "constant":
      return 1;
  }
}

/**
 * A permutation of 0 … count - 1, the same on every machine: Fisher and Yates's shuffle.
 *
 * @param seed a whole number of at most 53 bits
 * @param epoch from 0; each has an order of its own
 * @throws {RangeError} where one of them is no such number
 */
export function epochOrder(seed: number, epoch: number, count: number): Uint32Array {
  checkWhole("seed", seed, Number.MIN_SAFE_INTEGER);
  checkWhole("epoch", epoch, 0);
  checkWhole("count", count, 0);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  // The high bits make another seed of it; they are 0 for all that fit into 32.
  const high = Math.floor(seed / 2 ** 32);
  const key = streamKey(high === 0 ? seed : streamKey(seed, high), epoch);
  for (let last = count - 1; last > 0; last--) {
    const drawn = Math.floor(uniformOf(key, last) * (last + 1));
    const kept = order[last] ?? 0;
    order[last] = order[drawn] ?? 0;
    order[drawn] = kept;
  }
  return order;
}

function checkWhole(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new RangeError(
    `Cannot order an epoch: ${name} is ${value}, it should be a whole number` +
      (least === 0 ? " of 0 or more" : ""),
  );
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
