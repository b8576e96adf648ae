/**
 * What "auto" becomes, and whether what a caller says can be: epochs and batch size from the number
 * of rows, and how a job's steps and evaluations lie in its epochs. Pure arithmetic; it knows no
 * row and no rate.
 */

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
