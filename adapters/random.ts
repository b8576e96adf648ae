/**
 * Seeded random numbers by counter: element i of a stream is a function of (seed, stream, i) alone,
 * so that factor sets come out the same on every machine. Not for secrets.
 */

/** `count` numbers of N(0, 1), by Box and Muller's transform. */
export function gaussian(seed: number, stream: number, count: number): Float64Array {
  const out = new Float64Array(count);
  const key = mix(mix(seed >>> 0) ^ Math.imul(stream + 1, 0x9e3779b9));
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform(key, i)));
    const angle = 2 * Math.PI * uniform(key, i + 1);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** A number in [0, 1) of 32 bits. */
function uniform(key: number, counter: number): number {
  return mix(mix(counter ^ key) + key) / 2 ** 32;
}

/** A bijection of 32 bits with low bias: two rounds of xor-shift and multiply (Chris Wellons). */
function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
