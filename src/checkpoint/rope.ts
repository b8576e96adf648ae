/**
 * Rotary position embedding tables (RoFormer, arXiv 2104.09864) with the scalings of Llama 3,
 * linear interpolation and YaRN (arXiv 2309.00071), as transformers' `modeling_rope_utils` defines
 * them. Everything is computed in float64 and rounded once.
 */

import type { Rope, RopeScaling } from "./checkpoint.ts";

export interface RopeTables {
  /** [positions, turned / 2], row-major; [positions, headDim / 2] of ones where nothing turns. */
  readonly cos: Float32Array<ArrayBuffer>;
  /** The same, of zeros. */
  readonly sin: Float32Array<ArrayBuffer>;
}

/** Columns of a rotation's tables: a kernel that turns nothing would be another. */
export function ropeWidth({ turned }: Rope, headDim: number): number {
  return (turned === 0 ? headDim : turned) / 2;
}

/**
 * Cosines and sines of positions 0 … positions − 1, in the layout of GroupQueryAttention's
 * `cos_cache` and `sin_cache`. YaRN's and LongRoPE's attention factors are multiplied in. LongRoPE's
 * divisors are chosen by the number of positions, for rows of any length, as vLLM does.
 *
 * @throws {RangeError} where positions is no count
 */
export function ropeTables(rope: Rope, headDim: number, positions: number): RopeTables {
  if (!Number.isSafeInteger(positions) || positions < 0) {
    throw new RangeError(`Cannot make RoPE tables: positions must be a count, not ${positions}`);
  }
  const half = ropeWidth(rope, headDim);
  const frequencies = ropeFrequencies(rope, positions);
  const scale = "attentionFactor" in rope.scaling ? rope.scaling.attentionFactor : 1;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * (frequencies[i] ?? 0);
      cos[position * half + i] = Math.cos(angle) * scale;
      sin[position * half + i] = Math.sin(angle) * scale;
    }
  }
  return { cos, sin };
}

/**
 * Radians a position turns each of the turned / 2 planes by (transformers' `inv_freq`).
 *
 * @throws {RangeError} where `turned` is odd or the factors do not match it
 */
export function ropeFrequencies({ turned, theta, scaling }: Rope, positions = 0): Float64Array {
  if (turned % 2 !== 0) {
    throw new RangeError(
      `Cannot make RoPE tables: the dimensions that turn must be even, current value is ${turned}`,
    );
  }
  const plain = Float64Array.from({ length: turned / 2 }, (_, i) => theta ** (-2 * i / turned));
  if (scaling.type !== "longrope") return scaleFrequencies(plain, scaling, theta);
  const isLong = positions > scaling.originalMaxPositions;
  return divideByFactors(plain, isLong ? scaling.long : scaling.short);
}

function scaleFrequencies(
  plain: Float64Array,
  scaling: Exclude<RopeScaling, { type: "longrope" }>,
  theta: number,
): Float64Array {
  switch (scaling.type) {
    case "none":
      return plain;
    case "linear":
      return plain.map((f) => f / scaling.factor);
    case "llama3":
      return plain.map((f) => llama3Frequency(f, scaling));
    case "yarn":
      return yarnFrequencies(plain, scaling, theta);
    case "factors":
      return divideByFactors(plain, scaling.factors);
  }
}

/** Long waves are stretched by `factor`, short ones kept, those between interpolated. */
function llama3Frequency(
  frequency: number,
  scaling: Extract<RopeScaling, { type: "llama3" }>,
): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const turns = originalMaxPositions * frequency / (2 * Math.PI);
  if (turns < lowFreqFactor) return frequency / factor;
  if (turns > highFreqFactor) return frequency;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

function yarnFrequencies(
  plain: Float64Array,
  scaling: Extract<RopeScaling, { type: "yarn" }>,
  theta: number,
): Float64Array {
  const { factor, betaFast, betaSlow, originalMaxPositions, truncate } = scaling;
  const headDim = plain.length * 2;
  const planeOf = (turns: number): number =>
    headDim * Math.log(originalMaxPositions / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  const rawLow = planeOf(betaFast);
  const rawHigh = planeOf(betaSlow);
  const low = Math.max(truncate ? Math.floor(rawLow) : rawLow, 0);
  const ceiling = Math.min(truncate ? Math.ceil(rawHigh) : rawHigh, headDim - 1);
  const high = ceiling === low ? low + 0.001 : ceiling;
  return plain.map((frequency, plane) => {
    const interpolated = Math.min(Math.max((plane - low) / (high - low), 0), 1);
    return frequency / factor * interpolated + frequency * (1 - interpolated);
  });
}

function divideByFactors(plain: Float64Array, factors: readonly number[]): Float64Array {
  if (factors.length !== plain.length) {
    throw new RangeError(
      `Cannot scale RoPE: ${plain.length} factors are needed, ${factors.length} were given`,
    );
  }
  return plain.map((frequency, i) => frequency / (factors[i] ?? 1));
}
