/**
 * Seeded normal numbers by counter: element i of a stream is a function of (seed, stream, i) alone,
 * so that factor sets come out the same on every machine. Not for secrets.
 */
import { streamKey, uniformOf } from "./random.ts";

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
