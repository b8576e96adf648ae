/**
 * Rotary position embedding tables (RoFormer, arXiv 2104.09864) with the scalings of Llama 3,
 * linear interpolation and YaRN (arXiv 2309.00071), as transformers' `modeling_rope_utils` defines
 * them. Everything is computed in float64 and rounded once.
 */

import type { DecoderConfig, RopeScaling } from "./checkpoint.ts";

export interface RopeTables {
  /** [positions, headDim / 2], row-major. */
  readonly cos: Float32Array<ArrayBuffer>;
  /** [positions, headDim / 2], row-major. */
  readonly sin: Float32Array<ArrayBuffer>;
}

/** What the tables depend on. */
export type RopeConfig = Pick<DecoderConfig, "headDim" | "ropeTheta" | "ropeScaling">;

/**
 * Cosines and sines of positions 0 … positions − 1, in the layout of GroupQueryAttention's
 * `cos_cache` and `sin_cache`: dimension i rotates with dimension i + headDim / 2. YaRN's attention
 * factor is multiplied in.
 *
 * @throws {RangeError} where positions is no count
 */
export function ropeTables(config: RopeConfig, positions: number): RopeTables {
  if (!Number.isSafeInteger(positions) || positions < 0) {
    throw new RangeError(`Cannot make RoPE tables: positions must be a count, not ${positions}`);
  }
  const frequencies = ropeFrequencies(config);
  const half = frequencies.length;
  const scale = config.ropeScaling.type === "yarn" ? config.ropeScaling.attentionFactor : 1;
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
 * Radians a position turns each of the headDim / 2 planes by (transformers' `inv_freq`).
 *
 * @throws {RangeError} where headDim is odd or the factors do not match it
 */
export function ropeFrequencies(config: RopeConfig): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config;
  if (headDim % 2 !== 0) {
    throw new RangeError(
      `Cannot make RoPE tables: headDim must be even, current value is ${headDim}`,
    );
  }
  const plain = Float64Array.from(
    { length: headDim / 2 },
    (_, i) => ropeTheta ** (-2 * i / headDim),
  );
  return scaleFrequencies(plain, ropeScaling, ropeTheta);
}

function scaleFrequencies(
  plain: Float64Array,
  scaling: RopeScaling,
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
