/**
 * One row of logits on the host, and an upper bound of each block of 128: the k largest logits lie
 * in the k blocks with the largest bounds, so that few of a row's numbers are ever looked at. Blocks
 * run across rows, and a neighbour's logit may raise a bound: it is a bound, no maximum.
 */
import { BOUND_BLOCK } from "./graphs.ts";

/** What may be drawn from one row. */
export interface RowLogits {
  /** Logits of all rows. */
  readonly data: Float32Array;
  /** Where the row begins in `data`. */
  readonly start: number;
  readonly vocabSize: number;
  /** Of whole blocks over `data`; what lies behind them has none. */
  readonly bounds: Float32Array;
  /** Allowed tokens, 32 a word; undefined = all. */
  readonly mask: Int32Array | undefined;
}

/** Tokens of a row by rising id, and their logits. */
export interface Candidates {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  /** Every token whose logit is larger, or as large, is among them. */
  readonly complete: number;
}

/** Tokens that a mask allows are listed one by one up to so many. */
const LISTED = 1024;
/** Vocabularies up to this size are looked at whole. */
const SCANNED = 1024;
const MOST_FOUND = 4096;

/** The most likely token, of equal ones the first; undefined where none may be drawn. */
export function mostLikely(row: RowLogits): { token: number; logit: number } | undefined {
  const { data, start, vocabSize, bounds } = row;
  const end = start + vocabSize;
  let [token, logit] = [-1, -Infinity];
  for (let block = Math.floor(start / BOUND_BLOCK); block * BOUND_BLOCK < end; block++) {
    if (bounds[block] <= logit) continue;
    const last = Math.min(end, (block + 1) * BOUND_BLOCK);
    for (let at = Math.max(start, block * BOUND_BLOCK); at < last; at++) {
      if (data[at] > logit && isAllowed(row, at - start)) [token, logit] = [at - start, data[at]];
    }
  }
  return token < 0 ? undefined : { token, logit };
}

/**
 * About the `wanted` largest logits, or more; all where there are no more, or a mask allows few;
 * undefined where far too many are as large.
 */
export function largest(row: RowLogits, wanted: number): Candidates | undefined {
  const { data, start, vocabSize, bounds, mask } = row;
  const listed = mask === undefined ? undefined : allowedIds(mask, vocabSize);
  if (listed !== undefined) {
    return { ids: listed, logits: valuesAt(data, start, listed), complete: -Infinity };
  }
  const first = Math.floor(start / BOUND_BLOCK);
  const last = Math.ceil((start + vocabSize) / BOUND_BLOCK);
  // The bounds of the two blocks at the row's ends may be a neighbour's.
  const bound = () => kthLargest(bounds.slice(first, last), wanted + 2);
  const cut = vocabSize <= SCANNED ? -Infinity : bound();
  const found: number[] = [];
  for (let block = first; block < last; block++) {
    if (bounds[block] < cut) continue;
    const end = Math.min(start + vocabSize, (block + 1) * BOUND_BLOCK);
    for (let at = Math.max(start, block * BOUND_BLOCK); at < end; at++) {
      if (data[at] >= cut && isAllowed(row, at - start)) found.push(at - start);
    }
    if (found.length > MOST_FOUND) return undefined;
  }
  const ids = Int32Array.from(found);
  return { ids, logits: valuesAt(data, start, ids), complete: cut };
}

/**
 * How many candidates it makes sense to look for by blocks: with all but the few whose bounds are the
 * least there are some hundredths of the vocabulary.
 */
export function mostBlocks({ vocabSize }: RowLogits): number {
  return Math.max(1, Math.floor(0.96 * vocabSize / BOUND_BLOCK));
}

/**
 * The `k`th largest number, `-Infinity` where there are fewer; reorders `values` (quickselect, Hoare
 * 1961).
 */
export function kthLargest(values: Float32Array, k: number): number {
  if (k > values.length) return -Infinity;
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const pivot = values[(low + high) >>> 1];
    let [left, right] = [low, high];
    while (left <= right) {
      while (values[left] > pivot) left++;
      while (values[right] < pivot) right--;
      if (left > right) break;
      const swapped = values[left];
      values[left++] = values[right];
      values[right--] = swapped;
    }
    if (k - 1 <= right) high = right;
    else if (k - 1 >= left) low = left;
    else break;
  }
  return values[k - 1];
}

function isAllowed({ mask }: RowLogits, token: number): boolean {
  return mask === undefined || (mask[token >> 5] >>> (token & 31) & 1) === 1;
}

/** What a mask allows, where that is little. */
function allowedIds(mask: Int32Array, vocabSize: number): Int32Array | undefined {
  const found: number[] = [];
  for (let word = 0; word * 32 < vocabSize; word++) {
    let bits = mask[word];
    while (bits !== 0) {
      const token = word * 32 + 31 - Math.clz32(bits & -bits);
      if (token < vocabSize) found.push(token);
      bits &= bits - 1;
    }
    if (found.length > LISTED) return undefined;
  }
  return Int32Array.from(found);
}

function valuesAt(data: Float32Array, start: number, ids: Int32Array): Float32Array {
  const values = new Float32Array(ids.length);
  for (let i = 0; i < ids.length; i++) values[i] = data[start + ids[i]];
  return values;
}
