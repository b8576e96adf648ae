/** What "auto" becomes: epochs and batch size from the number of rows. */

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
