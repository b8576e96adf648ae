/**
 * A micro-batch as a graph's inputs: rows of tokens padded to the longest one, and the positions
 * that carry loss with their targets and weights. Also the way back, from losses by position to
 * losses by row. It knows no model and no device.
 */
import type { BatchRow, RowLoss } from "./model.ts";
import type { Sizes } from "./program.ts";

/** Loss positions are padded to a multiple of this, so that few distinct shapes occur. */
const ROW_STEP = 16;

export interface Packed {
  readonly sizes: Sizes;
  readonly time: number;
  /** [tokens], 0 where padded. */
  readonly ids: Int32Array;
  /** [rows]: the token whose logits predict … */
  readonly positions: Int32Array;
  /** … this one, … */
  readonly targets: Int32Array;
  /** … and how much that counts; 0 where padded. */
  readonly weights: Float32Array;
  /** The batch row of each position that is not padding. */
  readonly owners: Int32Array;
}

/** @throws {RangeError} for no row, or one without tokens. */
export function pack(rows: readonly BatchRow[]): Packed {
  const time = Math.max(0, ...rows.map(({ example }) => example.tokens.length));
  if (time === 0) throw new RangeError("Cannot train on a micro-batch without tokens");
  const owners = lossPositions(rows).map(({ row }) => row);
  const count = Math.max(1, Math.ceil(owners.length / ROW_STEP)) * ROW_STEP;
  const packed = {
    sizes: { tokens: rows.length * time, batch: rows.length, rows: count },
    time,
    ids: new Int32Array(rows.length * time),
    positions: new Int32Array(count),
    targets: new Int32Array(count),
    weights: new Float32Array(count),
    owners: Int32Array.from(owners),
  };
  rows.forEach(({ example }, row) => packed.ids.set(example.tokens, row * time));
  lossPositions(rows).forEach(({ row, position }, i) => {
    const { tokens, weights } = rows[row].example;
    packed.positions[i] = row * time + position - 1;
    packed.targets[i] = tokens[position];
    packed.weights[i] = weights[position];
  });
  return packed;
}

/** Sums by row of what each position lost and hit. */
export function lossesOf(
  packed: Packed,
  nll: ArrayLike<number>,
  hits: ArrayLike<number>,
): RowLoss[] {
  const sums = Array.from(
    { length: packed.sizes.batch },
    () => ({ loss: 0, weight: 0, hits: 0, tokens: 0 }),
  );
  packed.owners.forEach((row, i) => {
    const sum = sums[row];
    sum.loss += packed.weights[i] * nll[i];
    sum.weight += packed.weights[i];
    sum.hits += hits[i];
    sum.tokens++;
  });
  return sums;
}

/** The first token predicts the second: nothing predicts the first. */
function lossPositions(
  rows: readonly BatchRow[],
): { readonly row: number; readonly position: number }[] {
  return rows.flatMap(({ example }, row) =>
    Array.from(example.weights, (weight, position) => ({ weight, row, position }))
      .filter(({ weight, position }) => weight !== 0 && position > 0)
  );
}
