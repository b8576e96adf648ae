/**
 * Seeded random numbers by counter: element i of a stream is a function of (seed, stream, i) alone,
 * the same on every machine, so that nothing need be kept to go on with a stream. Not for secrets.
 */

const GOLDEN = 0x9e3779b9;

/** The key of one stream of a seed, 32 bits. Of seed and stream the low 32 bits count. */
export function streamKey(seed: number, stream: number): number {
  return mix(mix(seed >>> 0) ^ Math.imul(stream + 1, GOLDEN));
}

/** Number `counter` of the stream with this key, in [0, 1), of 32 bits. */
export function uniformOf(key: number, counter: number): number {
  return mix(mix(counter ^ key) + key) / 2 ** 32;
}

/** A bijection of 32 bits with low bias: two rounds of xor-shift and multiply (Chris Wellons). */
function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** `count` numbers of N(0, 1), by Box and Muller's transform. */
export function gaussian(seed: number, stream: number, count: number): Float64Array {
  const out = new Float64Array(count);
  const key = streamKey(seed, stream);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniformOf(key, i)));
    const angle = 2 * Math.PI * uniformOf(key, i + 1);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}
