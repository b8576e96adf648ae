/**
 * A draw by inverting the cumulative distribution at one uniform number: over sums of blocks of 256
 * first, then within one block, so that rounding to float32 does not shift it.
 */

/** A uniform number is kept below 1 after rounding to float32. */
export const BELOW_ONE = 1 - 2 ** -24;

/** The block in which the running sum passes the uniform number, and how far into it. */
export function passedBlock(
  sums: Float32Array,
  uniform: number,
): { readonly block: number; readonly past: number } {
  let total = 0;
  for (let i = 0; i < sums.length; i++) total = Math.fround(total + sums[i]);
  const target = Math.fround(Math.fround(Math.min(uniform, BELOW_ONE)) * total);
  let [block, running] = [0, sums[0]];
  while (running <= target && block < sums.length - 1) {
    running = Math.fround(running + sums[++block]);
  }
  const before = Math.fround(running - sums[block]);
  return { block, past: Math.max(0, Math.fround(target - before)) };
}

/** The index at which the running sum within a block passes `past`; of a possible token. */
export function passedIndex(probabilities: Float32Array, past: number): number {
  let sum = 0;
  for (let i = 0; i < probabilities.length; i++) sum = Math.fround(sum + probabilities[i]);
  // All sums are rounded: the block's own may be less than what is left.
  const within = Math.min(past, Math.fround(sum * BELOW_ONE));
  let [index, running] = [0, probabilities[0]];
  while (running <= within && index < probabilities.length - 1) {
    running = Math.fround(running + probabilities[++index]);
  }
  return index;
}
