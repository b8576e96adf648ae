/**
 * Some rows of a tensor: so that a table of 150,000 rows need not be in memory in float32 at once.
 * Rows are those of the first axis; a vector's are its elements.
 */
import type { Rows, WeightInfo } from "./checkpoint.ts";

/**
 * The rows that are asked for, or all.
 * @throws {RangeError} where the tensor does not have them
 */
export function rowsWithin(
  name: string,
  { shape }: Pick<WeightInfo, "shape">,
  rows: Rows | undefined,
): Rows {
  const count = shape[0] ?? 1;
  if (rows === undefined) return { first: 0, count };
  const { first } = rows;
  if (first >= 0 && rows.count > 0 && first + rows.count <= count) return rows;
  throw new RangeError(
    `Cannot read rows ${first} to ${first + rows.count - 1} of '${name}': it has ${count}`,
  );
}
