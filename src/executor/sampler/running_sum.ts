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
  readonly exps: Float32Array;
  readonly total: number;
}

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
    this.#addDealt(tokens, range);
  }

  /** Adds all tokens, as `add` does. */
  addAll(): void {
    const { logits } = this.#shares;
    const all = new Int32Array(logits.length);
    for (let token = 0; token < all.length; token++) all[token] = token;
    const range = likelyRange(logits);
    if (range === undefined) this.add(all);
    else this.#addDealt(all, range);
  }

  #addDealt(tokens: Int32Array, range: Range): void {
    const { dealt, ends } = deal(tokens, this.#shares.logits, range);
    let start = 0;
    for (const end of ends) {
      if (end > start && !this.#addInAnyOrder(dealt, start, end)) {
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

  /** Adds tokens where their order does not matter, and tells whether it did not. */
  #addInAnyOrder(tokens: Int32Array, start: number, end: number): boolean {
    const { exps, total } = this.#shares;
    if (this.sum === 0 || this.#left <= end - start) return false;
    const power = 2 ** Math.floor(Math.log2(this.sum));
    const step = power * 2 ** -23;
    // Adding and taking away this much rounds a number to a multiple of the step.
    const rounder = 1.5 * 2 ** 52 * step;
    let [added, halves] = [0, 0];
    for (let i = start; i < end; i++) {
      const share = Math.fround(exps[tokens[i]] / total);
      const rounded = share + rounder - rounder;
      added += rounded;
      if (Math.abs(rounded - share) === step / 2) halves++;
    }
    const sum = this.sum + added;
    if (halves > 0 || sum >= 2 * power || sum >= this.#goal) return false;
    this.sum = sum;
    this.#left -= end - start;
    return true;
  }
}

interface Range {
  readonly low: number;
  readonly high: number;
}

/** Tokens dealt into buckets by falling logit, and where each bucket ends. */
function deal(
  tokens: Int32Array,
  logits: Float32Array,
  { low, high }: Range,
): { readonly dealt: Int32Array; readonly ends: Int32Array } {
  const count = tokens.length;
  const buckets = Math.min(MOST_BUCKETS, Math.max(2, count >> 5));
  const [scale, last] = [buckets / (high - low), buckets - 1];
  const bucketOf = new Uint16Array(count);
  const next = new Int32Array(buckets + 1);
  for (let i = 0; i < count; i++) {
    const bucket = Math.max(0, Math.min((high - logits[tokens[i]]) * scale, last)) | 0;
    bucketOf[i] = bucket;
    next[bucket + 1]++;
  }
  for (let b = 0; b < buckets; b++) next[b + 1] += next[b];
  const dealt = new Int32Array(count);
  for (let i = 0; i < count; i++) dealt[next[bucketOf[i]]++] = tokens[i];
  return { dealt, ends: next.subarray(0, buckets) };
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
