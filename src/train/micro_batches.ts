/**
 * Which rows share a forward and backward pass, and on what grid they lie, as a pure policy on
 * lengths. The job that was served least leads with rows of like length, others fill what is left
 * of the budget, and padding counts by what it costs. A job's rows go together: the tokens that
 * they all begin with (a system prompt, a template's head) are computed once, forth and back.
 */
import { computedLength, type Example } from "./gradients/model.ts";
import type { Work } from "./job.ts";

/** One row that waits; the same object comes back with its result. */
export interface WaitingRow {
  readonly example: Example;
  /** Tokens that must be computed. */
  readonly length: number;
}

/** A job as the policy sees it. */
export interface Candidate {
  readonly kind: Work["type"];
  /** Longest first. */
  readonly waiting: readonly WaitingRow[];
  /** Tokens that its rows begin with, all of them alike. */
  readonly shared: number;
  /** Tokens of its rows that went out so far. */
  readonly served: number;
}

export interface Pick<C extends Candidate> {
  readonly candidate: C;
  /** At least one. */
  readonly rows: readonly WaitingRow[];
}

/** Rows for one micro-batch, all of them for steps or all of them for evaluations. */
export interface MicroBatchPlan<C extends Candidate> {
  readonly kind: "step" | "evaluation";
  readonly picks: readonly Pick<C>[];
}

/** Most rows of one job that are looked at; enough to find rows of like length. */
const MOST_OFFERED = 512;

/**
 * Chooses from jobs in the order given, ties in `served` going to the first; undefined where no row
 * waits. A job alone gets the same micro-batches every time.
 *
 * @param maxTokens most that a micro-batch may cost (`gridCost`); a longer row is alone
 */
export function planMicroBatch<C extends Candidate>(
  candidates: readonly C[],
  maxTokens: number,
): MicroBatchPlan<C> | undefined {
  const [leader, ...others] = candidates
    .filter(({ waiting }) => waiting.length > 0)
    .sort((a, b) => a.served - b.served);
  if (leader === undefined) return undefined;
  const { kind } = leader;
  if (kind === "none") throw new Error("internal: rows wait for no work");
  const first = leading(leader, maxTokens);
  const time = longestOf(first);
  let left = maxTokens - costOf(first, time);
  const picks = [first];
  for (const candidate of others.filter((other) => other.kind === kind)) {
    const pick = { candidate, rows: fitting(candidate, time, left) };
    if (pick.rows.length === 0) continue;
    picks.push(pick);
    left -= costOf(pick, time);
  }
  return { kind, picks };
}

/** The leader's longest rows, of a length that wastes little. */
function leading<C extends Candidate>(candidate: C, maxTokens: number): Pick<C> {
  const offered = candidate.waiting.slice(0, MOST_OFFERED);
  const lengths = offered.map(({ length }) => length - candidate.shared);
  const budget = Math.max(1, maxTokens - candidate.shared);
  const [batch = []] = microBatches(lengths, { budget });
  const rows = batch.map((i) => offered[i]);
  // shared tokens take whole rows of the grid, so fewer rows may fit than their lengths say
  while (rows.length > 1) {
    const pick = { candidate, rows };
    if (costOf(pick, longestOf(pick)) <= maxTokens) break;
    rows.pop();
  }
  return { candidate, rows };
}

/** Rows that fit a grid of `time` columns at a cost of `left`: as many as go, longest first. */
function fitting(candidate: Candidate, time: number, left: number): readonly WaitingRow[] {
  const { waiting, shared } = candidate;
  let free = left - gridCost(shared, cellsOf(shared, time));
  const rows: WaitingRow[] = [];
  for (const row of waiting) {
    const own = row.length - shared;
    if (own > time) continue;
    free -= gridCost(own, time);
    if (free < 0) break;
    rows.push(row);
  }
  if (rows.length > 1) return rows;
  // one row alone shares nothing
  const fits = ({ length }: WaitingRow) => length <= time && gridCost(length, time) <= left;
  return waiting.filter(fits).slice(0, 1);
}

/** Columns of the grid that these rows need. */
function longestOf({ candidate, rows }: Pick<Candidate>): number {
  return rows[0].length - sharedBy(candidate, rows.length);
}

/** What these rows cost on a grid of `time` columns, what they share included. */
function costOf({ candidate, rows }: Pick<Candidate>, time: number): number {
  const shared = sharedBy(candidate, rows.length);
  const tokens = rows.reduce((sum, { length }) => sum + length - shared, shared);
  return gridCost(tokens, rows.length * time + cellsOf(shared, time));
}

/** Cells of the rows that hold what is shared. */
function cellsOf(shared: number, time: number): number {
  return Math.ceil(shared / time) * time;
}

function sharedBy({ shared }: Candidate, rows: number): number {
  return rows < 2 ? 0 : shared;
}

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

/** Rows of a micro-batch laid out on a grid of `time` columns. */
export interface Grid {
  readonly time: number;
  /** Tokens that the rows of each trainable share; 0 = none. */
  readonly shared: readonly number[];
}

/**
 * How many first tokens all of these rows share: none that a loss is computed at or from, and never
 * all of a row. 0 for fewer than two rows.
 */
export function sharedLength(examples: readonly Example[]): number {
  const [first, ...rest] = examples;
  if (first === undefined || rest.length === 0) return 0;
  let length = Math.min(...examples.map(beforeLoss));
  for (const { tokens } of rest) {
    let same = 0;
    while (same < length && tokens[same] === first.tokens[same]) same++;
    length = same;
  }
  return length;
}

/**
 * The cheaper of two grids: whole rows, or what is shared in rows of its own (as many as it takes)
 * and each row's rest.
 *
 * @param groups the rows of each trainable
 */
export function layOut(groups: readonly (readonly Example[])[]): Grid {
  const rows = groups.flat();
  const none = groups.map(() => 0);
  const whole = { time: longest(rows, 0), shared: none };
  const lengths = groups.map(sharedLength);
  const time = Math.max(...groups.map((group, i) => longest(group, lengths[i])));
  const apart = { time, shared: lengths };
  return costOnGrid(groups, apart) < costOnGrid(groups, whole) ? apart : whole;
}

function costOnGrid(groups: readonly (readonly Example[])[], { time, shared }: Grid): number {
  let [tokens, cells] = [0, 0];
  groups.forEach((group, i) => {
    tokens += shared[i] + group.reduce((sum, row) => sum + computedLength(row) - shared[i], 0);
    cells += (group.length + Math.ceil(shared[i] / time)) * time;
  });
  return gridCost(tokens, cells);
}

function longest(rows: readonly Example[], shared: number): number {
  return Math.max(0, ...rows.map((row) => computedLength(row) - shared));
}

/** The loss of position i is computed from the one before, which a row must keep. */
function beforeLoss({ tokens, weights }: Example): number {
  const loss = weights.findIndex((weight, i) => weight !== 0 && i > 0);
  return Math.max(0, (loss === -1 ? tokens.length : loss) - 1);
}
