/**
 * Which tokens a row may draw. Top-k, top-p (arXiv 1904.09751) and min-p (arXiv 2407.01082) are
 * thresholds on the logit over the temperature, in vLLM's order: top-k, then top-p of what top-k
 * leaves; min-p is relative to the most likely token. All numbers are float32, as a graph has them.
 */
import type { SampleRow } from "../model.ts";
import {
  type Candidates,
  kthLargest,
  largest,
  mostBlocks,
  mostLikely,
  type RowLogits,
} from "./row_logits.ts";
import { RunningSum } from "./running_sum.ts";

export type Choice =
  /** One token; the first where none may be drawn. */
  | { readonly kind: "token"; readonly token: number }
  /** These tokens, by rising id, with their logits over the temperature. */
  | { readonly kind: "few"; readonly ids: Int32Array; readonly logits: Float32Array }
  /** To be decided with the whole row's mass: exponentials relative to the logit `most`. */
  | { readonly kind: "mass"; readonly most: number }
  /** More than a list should hold. */
  | { readonly kind: "many"; readonly most: number }
  /** Whatever the mask allows; `most` where there is one. */
  | { readonly kind: "whole"; readonly most: number | undefined };

/** A row's probabilities: `exps[token] / total`. */
export interface Shares {
  readonly exps: Float32Array;
  readonly total: number;
}

/** At least so many candidates are needed. */
interface More {
  readonly more: number;
}

interface Look {
  readonly candidates: Candidates;
  readonly inverse: number;
  /** The largest logit over the temperature. */
  readonly most: number;
  readonly filters: Filters;
  readonly shares: Shares | undefined;
}

type Filters = Pick<SampleRow, "topK" | "topP" | "minP">;

/** Candidates that are looked at first for top-p; 4 times more at each further look. */
const FIRST = 48;
/** Tokens that are listed at most. */
const MOST = 2048;
const BELOW = 70;
/** Logits up to this size are exact enough to take that away. */
const EXACT = 2 ** 20;

/** A temperature as the graphs multiply by it. */
export function inverseOf({ temperature }: Pick<SampleRow, "temperature">): number {
  return temperature > 0 ? Math.fround(1 / temperature) : 1;
}

/** What is known without the mass of the whole row, or with it. */
export function choose(row: RowLogits, wanted: SampleRow, shares?: Shares): Choice {
  const filters = filtersOf(wanted, row.vocabSize);
  if (isWhole(wanted)) return { kind: "whole", most: undefined };
  const best = mostLikely(row);
  if (best === undefined) return { kind: "token", token: 0 };
  if (wanted.temperature === 0) return { kind: "token", token: best.token };
  const inverse = inverseOf(wanted);
  const most = Math.fround(best.logit * inverse);
  if (filters === undefined) return everything(row, inverse, most);
  const { topK, topP } = filters;
  if (topP !== undefined && topK === undefined && shares === undefined) {
    return { kind: "mass", most };
  }
  const last = mostBlocks(row);
  let count = Math.min(topK === undefined ? FIRST : topK + 4, last);
  while (true) {
    const candidates = largest(row, count);
    if (candidates === undefined) break;
    const found = threshold(row, { candidates, inverse, most, filters, shares });
    if (found === "mass") return { kind: "mass", most };
    if (typeof found === "number") {
      const few = fewOf(candidates, inverse, found);
      if (few !== undefined) return few;
      break;
    }
    if (count === last || found.more > MOST) break;
    count = Math.min(last, Math.max(4 * count, found.more));
  }
  const massless = topP === undefined || shares !== undefined;
  return massless ? { kind: "many", most } : { kind: "mass", most };
}

/**
 * The same of a row of which the largest logits alone are known, and its mass: sum of
 * exp(logit · inverse - the largest of these). Undefined where it takes more logits.
 */
export function chooseAmong(
  { ids, logits, complete }: Candidates,
  wanted: SampleRow,
  { vocabSize, total }: { readonly vocabSize: number; readonly total: number },
): Extract<Choice, { kind: "few" }> | undefined {
  const filters = filtersOf(wanted, vocabSize) ?? {};
  const inverse = inverseOf(wanted);
  const most = Math.fround(logits.reduce((most, logit) => Math.max(most, logit)) * inverse);
  const exps = logits.map((logit) => Math.exp(Math.fround(logit * inverse) - most));
  // the row is its candidates, under their places
  const row = { data: logits, start: 0, vocabSize: ids.length, bounds: logits, mask: undefined };
  const candidates = { ids: Int32Array.from(ids.keys()), logits, complete };
  const shares = { exps, total };
  const found = threshold(row, { candidates, inverse, most, filters, shares });
  return typeof found === "number" ? fewOf({ ids, logits, complete }, inverse, found) : undefined;
}

/** What a row filters by; undefined where nothing. */
export function filtersOf(
  { topK, topP, minP }: Filters,
  vocabSize: number,
): Filters | undefined {
  const nucleus = topP !== undefined && topP < 1;
  const filters = {
    ...(topK !== undefined && (topK < vocabSize || nucleus) && { topK: Math.min(topK, vocabSize) }),
    ...(nucleus && { topP: Math.fround(topP) }),
    ...(minP !== undefined && { minP }),
  };
  return Object.keys(filters).length === 0 ? undefined : filters;
}

/** The least logit that min-p lets through. */
export function minPThreshold(most: number, minP: number): number {
  return Math.fround(most + Math.fround(Math.log(minP)));
}

/** Whether any token may come, so that nothing needs to be known of a row. */
export function isWhole(wanted: SampleRow): boolean {
  const { temperature, topK, topP, minP, mask } = wanted;
  return temperature > 0 && mask === undefined && topK === undefined && topP === undefined &&
    minP === undefined;
}

function everything(row: RowLogits, inverse: number, most: number): Choice {
  const whole = { kind: "whole", most: row.mask && most } as const;
  if (row.mask === undefined) return whole;
  const listed = largest(row, 1);
  const all = listed?.complete === -Infinity;
  return all ? fewOf(listed, inverse, -Infinity) ?? whole : whole;
}

/**
 * A logit over the temperature that stands for none: e^-70 as likely as the largest, `most`. That is too
 * little to show in a float32 sum that has the largest in it, and no subnormal number, as come of
 * `-Infinity` on the way to 0: a processor may take fifty times as long for such.
 */
export function farBelow(most: number): number {
  return Math.abs(most) < EXACT ? most - BELOW : -Infinity;
}

function fewOf(
  { ids, logits }: Candidates,
  inverse: number,
  least: number,
): Extract<Choice, { kind: "few" }> | undefined {
  const [few, scaled] = [new Int32Array(ids.length), new Float32Array(ids.length)];
  let count = 0;
  for (let i = 0; i < ids.length; i++) {
    scaled[count] = logits[i] * inverse;
    if (scaled[count] >= least) few[count++] = ids[i];
  }
  if (count > MOST) return undefined;
  return { kind: "few", ids: few.subarray(0, count), logits: scaled.subarray(0, count) };
}

/** Indices by falling value, of equal ones by rising index. */
export function fallingOrder(values: Float32Array): Int32Array {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  const keys = new Float64Array(values.length);
  for (let i = 0; i < keys.length; i++) {
    const rank = bits[i] < 0 ? bits[i] ^ 0x7fffffff : bits[i];
    keys[i] = i - rank * 2 ** 21;
  }
  keys.sort();
  return Int32Array.from(keys, (key) => key - Math.floor(key / 2 ** 21) * 2 ** 21);
}

/** The least logit over the temperature that may be drawn, or what is needed to know it. */
function threshold(row: RowLogits, look: Look): number | "mass" | More {
  const { candidates: { logits, complete }, inverse, most, filters: { topK, topP, minP } } = look;
  // No candidate that is missing has a larger logit.
  const limit = Math.fround(complete * inverse);
  if (topK !== undefined && logits.length < topK && limit > -Infinity) return { more: topK };
  let least = topK === undefined
    ? -Infinity
    : Math.fround(kthLargest(logits.slice(), topK) * inverse);
  if (topP !== undefined) {
    const nucleus = look.shares === undefined
      ? nucleusByRatio(look, topP, topK ?? logits.length)
      : nucleusByShares(row, look, topP, look.shares);
    if (nucleus === "mass") return "mass";
    if (typeof nucleus === "number") least = Math.max(least, nucleus);
    else if (limit > -Infinity) return nucleus;
  }
  if (minP !== undefined) least = Math.max(least, minPThreshold(most, minP));
  return least > limit || limit === -Infinity ? least : { more: 1 };
}

/** Where the running sum of shares reaches top-p of what top-k leaves. */
function nucleusByShares(
  { data, start, vocabSize }: RowLogits,
  { candidates: { ids }, inverse, filters: { topK } }: Look,
  topP: number,
  { exps, total }: Shares,
): number | More {
  const shares = { logits: data.subarray(start, start + vocabSize), exps, total, inverse };
  const sumTo = (goal: ConstructorParameters<typeof RunningSum>[1]) => {
    const sum = new RunningSum(shares, goal);
    sum.add(ids.slice());
    return sum;
  };
  const mass = topK === undefined ? 1 : sumTo({ count: topK }).sum;
  const target = Math.fround(topP * mass);
  const { sum, reached } = sumTo({ mass: target });
  if (reached !== undefined) return Math.fround(reached * inverse);
  // Tokens that are missing are at most as likely as the last.
  const last = ids.reduce((last, id) => Math.min(last, exps[id]), Infinity) / total;
  return { more: ids.length + (target - sum) / last };
}

/**
 * The same under top-k, where the row's mass cancels out. "mass" where rounding might decide: each
 * addition in float32 rounds once, and the exponentials, the division and the target a few times.
 */
function nucleusByRatio(
  { candidates: { logits }, inverse, most }: Look,
  topP: number,
  topK: number,
): number | "mass" {
  const order = fallingOrder(logits);
  const scaled = (i: number) => Math.fround(logits[order[i]] * inverse);
  const sums = new Float64Array(Math.min(topK, order.length));
  let sum = 0;
  for (let i = 0; i < sums.length; i++) sums[i] = sum += Math.exp(scaled(i) - most);
  const [target, error] = [topP * sum, (2 * sums.length + 64) * 2 ** -24];
  const last = sums.findIndex((sum) => sum >= target * (1 - error));
  return last >= 0 && sums[last] > target * (1 + error) ? scaled(last) : "mass";
}
