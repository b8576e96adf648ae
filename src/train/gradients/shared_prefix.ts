/**
 * What rows of one trainable have in common: the tokens before they part (a system prompt, a
 * template's head). Their keys and values, and what flows back through them, are the same for all
 * these rows, so a micro-batch computes them once.
 */
import { gridCost } from "../micro_batches.ts";
import { computedLength, type Example } from "./model.ts";

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
  return costOf(groups, apart) < costOf(groups, whole) ? apart : whole;
}

function costOf(groups: readonly (readonly Example[])[], { time, shared }: Grid): number {
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
