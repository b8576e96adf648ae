/**
 * 4-bit blocks as GGUF stores them (Q4_0: d; Q4_1: d and m, float16), taken apart without rounding
 * anything.
 */
import type { WeightSource } from "../checkpoint/checkpoint.ts";
import type { AffineBlocks } from "../graph/quantise.ts";

/** The blocks of a Q4_0 or Q4_1 weight; undefined for any other type. */
export function readAffineBlocks(weights: WeightSource, name: string): AffineBlocks | undefined {
  const { type } = weights.info(name);
  if (type !== "Q4_0" && type !== "Q4_1") return undefined;
  const header = type === "Q4_1" ? 4 : 2;
  const raw = weights.readRaw(name);
  const count = raw.length / (header + 16);
  const half = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const blocks = {
    scales: new Float32Array(count),
    minimums: new Float32Array(count),
    q: new Uint8Array(count * 16),
  };
  for (let b = 0; b < count; b++) {
    const at = b * (header + 16);
    const scale = half.getFloat16(at, true);
    blocks.scales[b] = scale;
    // Q4_0 is scale · (q - 8).
    blocks.minimums[b] = type === "Q4_1" ? half.getFloat16(at + 2, true) : -8 * scale;
    blocks.q.set(raw.subarray(at + header, at + header + 16), b * 16);
  }
  return blocks;
}
