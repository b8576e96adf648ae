/**
 * How sure a difference of two accuracies is: a paired bootstrap over test rows. Pure and seeded.
 */
import { seededRandom } from "../workload.ts";

export interface Interval {
  /** Mean difference. */
  readonly mean: number;
  /** 2.5th and 97.5th percentile of the resampled means. */
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 10_000;

/**
 * The mean of `own - other` over rows, with the 95% interval of resampling rows in pairs.
 * @param own for each row how often it was right, 0 to 1: the mean over seeds
 * @throws {RangeError} where the two have not the same rows
 */
export function pairedInterval(
  own: readonly number[],
  other: readonly number[],
  resamples = RESAMPLES,
): Interval {
  const count = own.length;
  if (count === 0 || other.length !== count) {
    throw new RangeError(
      `Cannot compare ${count} rows with ${other.length}: as many are wanted, at least one`,
    );
  }
  const differences = own.map((value, row) => value - other[row]);
  const random = seededRandom(1);
  const means = Float64Array.from({ length: resamples }, () => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += differences[Math.floor(random() * count)];
    return sum / count;
  }).sort();
  const at = (share: number) => means[Math.min(resamples - 1, Math.floor(share * resamples))];
  const mean = differences.reduce((sum, value) => sum + value, 0) / count;
  return { mean, low: at(0.025), high: at(0.975) };
}

/**
 * For each row the share of runs that had it right.
 * @param verdicts "1" or "0" for each row, one text a run
 * @throws {RangeError} where the texts are of different lengths, or there is none
 */
export function rowMeans(verdicts: readonly string[]): readonly number[] {
  const count = verdicts[0]?.length;
  if (count === undefined || verdicts.some(({ length }) => length !== count)) {
    throw new RangeError(
      `Cannot average verdicts of ${verdicts.map(({ length }) => length).join(", ")} rows: ` +
        `the runs of a method are on the same rows`,
    );
  }
  return Array.from(
    { length: count },
    (_, row) => verdicts.filter((text) => text[row] === "1").length / verdicts.length,
  );
}
