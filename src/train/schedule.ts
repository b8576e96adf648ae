/**
 * How a job goes through its rows, as pure arithmetic: steps and evaluations of an epoch, the order of
 * an epoch's rows, and the learning rate of a step as a share of the peak (which is `settle.ts`'s). All
 * follows from seed, epoch and step, so that a resumed job finds its place again.
 */
import { streamKey, uniformOf } from "../util/random.ts";
import type { SettledCounts } from "./settle.ts";

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
