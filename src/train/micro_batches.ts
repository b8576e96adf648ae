/**
 * Which rows share a forward and backward pass: rows of like length together, within a budget of
 * tokens, padding counted by what it costs. Pure arithmetic on lengths; it knows neither tokens nor
 * tenants.
 */

export interface MicroBatchOptions {
  /** Most that a micro-batch may cost (`gridCost`), in tokens. A longer row is alone in its own. */
  readonly budget: number;
  /** What starting one more micro-batch costs, in tokens; default 64. */
  readonly overhead?: number;
}

const DEFAULT_OVERHEAD = 64;
/** What a cell without a token costs, in tokens: only attention computes it. */
const PADDING_COST = 0.25;

/** What a grid of so many cells costs that holds so many tokens, in tokens. */
export function gridCost(tokens: number, cells: number): number {
  return tokens + PADDING_COST * (cells - tokens);
}

/**
 * Partitions rows into micro-batches: of all ways to cut the rows, sorted by length, into runs
 * within the budget, the one of least Σ (cost + overhead). Deterministic: rows of equal
 * length keep their order.
 *
 * @param lengths tokens of each row
 * @returns indices into `lengths`, each exactly once; longest rows first, within a batch as well
 * @throws {RangeError} where budget or overhead is no such number
 */
export function microBatches(
  lengths: ArrayLike<number>,
  { budget, overhead = DEFAULT_OVERHEAD }: MicroBatchOptions,
): readonly (readonly number[])[] {
  if (!(budget >= 1)) {
    throw new RangeError(`Cannot make micro-batches: budget is ${budget}, it should be 1 or more`);
  }
  if (!(overhead >= 0)) {
    throw new RangeError(
      `Cannot make micro-batches: overhead is ${overhead}, it should be 0 or more`,
    );
  }
  const lengthOf = (row: number): number => lengths[row] ?? 0;
  const sorted = Array.from({ length: lengths.length }, (_, row) => row)
    .sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const ends = cheapestEnds(sorted.map(lengthOf), budget, overhead);
  const batches: number[][] = [];
  for (let start = 0; start < sorted.length;) {
    const end = ends[start] ?? start + 1;
    batches.push(sorted.slice(start, end));
    start = end;
  }
  return batches;
}

/**
 * For each start, where the run that begins there ends in the cheapest partition of the rest; of
 * equally cheap ones the longest run. `lengths` fall, so a run's first row is its longest.
 */
function cheapestEnds(lengths: readonly number[], budget: number, overhead: number): Uint32Array {
  const count = lengths.length;
  const ends = new Uint32Array(count);
  const costs = new Float64Array(count + 1);
  for (let start = count - 1; start >= 0; start--) {
    const longest = lengths[start] ?? 0;
    let best = Infinity;
    let tokens = 0;
    for (let end = start + 1; end <= count; end++) {
      tokens += lengths[end - 1] ?? 0;
      const grid = gridCost(tokens, (end - start) * longest);
      if (grid > budget && end > start + 1) break;
      const cost = grid + overhead + (costs[end] ?? 0);
      if (cost > best) continue;
      best = cost;
      ends[start] = end;
    }
    costs[start] = best;
  }
  return ends;
}
