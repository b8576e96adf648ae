/**
 * The sum that top-p (arXiv 1904.09751) ends at: shares by falling logit, added up in float32. Every
 * addition rounds, so the token at which the sum reaches a mass depends on all shares before it.
 *
 * Between two powers of two a float32 sum has one grid, to which every share is rounded by itself: the
 * order of the shares does not matter there, but for shares halfway between two of its points. So
 * tokens are dealt into buckets by falling logit, and only those in which the sum passes a power of
 * two, or its goal, are put in order.
 */

/** One row's shares: token i has `exps[i] / total`. */
export interface RowShares {
  readonly logits: Float32Array;
  /** Of each logit times `inverse`, relative to some largest one. */
  readonly exps: Float32Array;
  readonly total: number;
  /** 1 over the temperature. */
  readonly inverse: number;
}

/** More than an exponential's relative error. */
const EXP_ERROR = 2 ** -20;
/** Up to so many tokens are sorted by insertion. */
const SORTED = 32;
const MOST_BUCKETS = 2048;
/** One logit of so many tells the range of all. */
const SAMPLED = 61;

/** A running sum on its way to a mass, or to a number of shares. */
export class RunningSum {
  readonly #shares: RowShares;
  readonly #goal: number;
  #left: number;
  /** In float32. */
  sum = 0;
  /** The logit with which the goal was reached; undefined where it is not yet. */
  reached: number | undefined;

  constructor(shares: RowShares, goal: { readonly mass: number } | { readonly count: number }) {
    this.#shares = shares;
    this.#goal = "mass" in goal ? goal.mass : Infinity;
    this.#left = "count" in goal ? goal.count : Infinity;
  }

  /** Adds tokens in falling order of their logits, until the goal is reached; impossible ones not. */
  add(tokens: Int32Array): void {
    const { logits } = this.#shares;
    if (tokens.length <= SORTED) return this.#addInOrder(insertionSort(tokens, logits));
    const range = rangeOf(tokens, logits);
    if (range.low === -Infinity) return this.add(tokens.filter((at) => logits[at] > -Infinity));
    if (range.low === range.high) return this.#addInOrder(tokens);
    this.#addDealt(deal(tokens, logits, range, dealRoom(tokens.length)));
  }

  /** Adds all tokens, as `add` does; in memory for as many, which may be used again. */
  addAll(room: DealRoom = dealRoom(this.#shares.logits.length)): void {
    const { logits } = this.#shares;
    const range = likelyRange(logits);
    if (range === undefined) this.add(Int32Array.from(logits.keys()));
    else this.#addDealt(deal(undefined, logits, range, room));
  }

  #addDealt({ dealt, ends, width, farthest }: Dealt): void {
    const { inverse } = this.#shares;
    const error = EXP_ERROR + farthest * inverse * 2 ** -21;
    const spread = 1.01 * (Math.expm1(width * inverse) + error);
    let start = 0;
    for (let b = 0; b < ends.length; b++) {
      const [end, inner] = [ends[b], b > 0 && b < ends.length - 1];
      if (end > start && !this.#addInAnyOrder(dealt, start, end, inner ? spread : Infinity)) {
        this.add(dealt.subarray(start, end));
        if (this.reached !== undefined) return;
      }
      start = end;
    }
  }

  #addInOrder(tokens: Int32Array): void {
    const { logits, exps, total } = this.#shares;
    for (const token of tokens) {
      if (logits[token] === -Infinity) return;
      this.sum = Math.fround(this.sum + Math.fround(exps[token] / total));
      this.#left--;
      if (this.sum < this.#goal && this.#left > 0) continue;
      this.reached = logits[token];
      return;
    }
  }

  /**
   * Adds tokens where their order does not matter, and tells whether it did not. Their shares differ
   * by `spread` times the first's, at most.
   */
  #addInAnyOrder(tokens: Int32Array, start: number, end: number, spread: number): boolean {
    if (this.sum === 0 || this.#left <= end - start) return false;
    const power = 2 ** Math.floor(Math.log2(this.sum));
    const step = power * 2 ** -23;
    const added = this.#alike(tokens[start], spread, step) * (end - start) ||
      this.#rounded(tokens, start, end, step);
    const sum = this.sum + added;
    // also where some share is halfway, and nothing was added up
    if (!(sum < 2 * power && sum < this.#goal)) return false;
    this.sum = sum;
    this.#left -= end - start;
    return true;
  }

  /** What each share is rounded to, where that is the same for all like this one; 0 where not. */
  #alike(token: number, spread: number, step: number): number {
    const share = this.#shares.exps[token] / this.#shares.total;
    const rounded = Math.round(share * (1 - spread) / step);
    return rounded === Math.round(share * (1 + spread) / step) ? rounded * step : 0;
  }

  /** The sum of shares rounded to multiples of `step`; NaN where one lies halfway. */
  #rounded(tokens: Int32Array, start: number, end: number, step: number): number {
    const { exps, total } = this.#shares;
    // Adding and taking away this much rounds a number to a multiple of the step.
    const rounder = 1.5 * 2 ** 52 * step;
    let [added, halves] = [0, 0];
    for (let i = start; i < end; i++) {
      const share = Math.fround(exps[tokens[i]] / total);
      const rounded = share + rounder - rounder;
      added += rounded;
      if (Math.abs(rounded - share) === step / 2) halves++;
    }
    return halves > 0 ? NaN : added;
  }
}

interface Range {
  readonly low: number;
  readonly high: number;
}

/** Tokens in buckets by falling logit, and where each bucket ends. */
interface Dealt {
  readonly dealt: Int32Array;
  readonly ends: Int32Array;
  /** The most by which two logits of a bucket differ, but for those of the first and the last. */
  readonly width: number;
  /** The largest logit of the range, without its sign. */
  readonly farthest: number;
}

/** Memory to deal tokens in. */
export interface DealRoom {
  readonly bucketOf: Uint16Array;
  readonly dealt: Int32Array;
}

export function dealRoom(count: number): DealRoom {
  return { bucketOf: new Uint16Array(count), dealt: new Int32Array(count) };
}

/** Deals tokens, or all that there are logits of, into buckets. */
function deal(
  tokens: Int32Array | undefined,
  logits: Float32Array,
  { low, high }: Range,
  { bucketOf, dealt }: DealRoom,
): Dealt {
  const count = tokens === undefined ? logits.length : tokens.length;
  const buckets = Math.min(MOST_BUCKETS, Math.max(2, count >> 5));
  const [scale, last] = [buckets / (high - low), buckets - 1];
  const next = new Int32Array(buckets + 1);
  for (let i = 0; i < count; i++) {
    const logit = logits[tokens === undefined ? i : tokens[i]];
    const bucket = Math.max(0, Math.min((high - logit) * scale, last)) | 0;
    bucketOf[i] = bucket;
    next[bucket + 1]++;
  }
  for (let b = 0; b < buckets; b++) next[b + 1] += next[b];
  for (let i = 0; i < count; i++) {
    dealt[next[bucketOf[i]]++] = tokens === undefined ? i : tokens[i];
  }
  const farthest = Math.max(Math.abs(low), Math.abs(high));
  return { dealt, ends: next.subarray(0, buckets), width: (high - low) / buckets, farthest };
}

function rangeOf(tokens: Int32Array, logits: Float32Array): Range {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < tokens.length; i++) {
    const logit = logits[tokens[i]];
    if (logit < low) low = logit;
    if (logit > high) high = logit;
  }
  return { low, high };
}

/** The range of a sample: what lies outside comes into the first bucket or the last. */
function likelyRange(logits: Float32Array): Range | undefined {
  let [low, high] = [Infinity, -Infinity];
  for (let at = 0; at < logits.length; at += SAMPLED) {
    const logit = logits[at];
    if (logit > high) high = logit;
    if (logit < low && logit > -Infinity) low = logit;
  }
  return low < high ? { low, high } : undefined;
}

/** By falling logit, in place. */
function insertionSort(tokens: Int32Array, logits: Float32Array): Int32Array {
  for (let i = 1; i < tokens.length; i++) {
    const token = tokens[i];
    let j = i - 1;
    for (; j >= 0 && logits[tokens[j]] < logits[token]; j--) tokens[j + 1] = tokens[j];
    tokens[j + 1] = token;
  }
  return tokens;
}
