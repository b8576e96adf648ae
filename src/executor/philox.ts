/**
 * Counter-based random numbers: a draw is a pure function of (seed, sample, position), so a
 * sequence's text depends neither on its neighbours nor on how often it was recomputed.
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 */

const MULTIPLIER_0 = 0xD2511F53;
const MULTIPLIER_1 = 0xCD9E8D57;
const WEYL_0 = 0x9E3779B9;
const WEYL_1 = 0xBB67AE85;
const ROUNDS = 10;
/** The largest float32 below 1: the graph's uniform must stay below 1 after rounding. */
const BELOW_ONE = 1 - 2 ** -24;

/**
 * Philox4x32-10's first output word.
 * @param counter four 32-bit words. @param key two 32-bit words.
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): number {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + WEYL_0) | 0;
    k1 = (k1 + WEYL_1) | 0;
  }
  return c0 >>> 0;
}

/**
 * A uniform number in [0, 1 - 2⁻²⁴], 32 bits fine.
 * @param seed an integer, negative ones included; above 53 bits neighbours may be the same.
 * @param sample which of the request's n samples.
 * @param position index of the output token to be drawn.
 */
export function uniformAt(seed: number, sample: number, position: number): number {
  const low = seed >>> 0;
  const high = Math.floor(seed / 2 ** 32) >>> 0;
  return Math.min(philox([position, sample, 0, 0], [low, high]) / 2 ** 32, BELOW_ONE);
}

/** A seed for a request that names none. */
export function randomSeed(): number {
  const words = crypto.getRandomValues(new Uint32Array(2));
  return (words[0] ?? 0) + ((words[1] ?? 0) >>> 12) * 2 ** 32;
}

/** The upper 32 bits of a 32 × 32 bit product. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xFFFF;
  const aHigh = a >>> 16;
  const bLow = b & 0xFFFF;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle & 0xFFFF);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000)) | 0;
}
