/** Weights in blocks turned back into numbers, by the definition of the blocks. */
import type { BlockForm, Blocks } from "../src/util/blocks.ts";

/** scale · (q - middle) + offset, in float64. */
export function unpack({ bits, size }: Omit<BlockForm, "offsets">, blocks: Blocks): Float64Array {
  const { q, scales, offsets } = blocks;
  return Float64Array.from({ length: scales.length * size }, (_, i) => {
    const block = Math.floor(i / size);
    const step = bits === 8 ? q[i] - 128 : (q[i >> 1] >> 4 * (i % 2) & 15) - 8;
    return scales[block] * step + (offsets?.[block] ?? 0);
  });
}
