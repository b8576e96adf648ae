/**
 * What stands behind pooling: dense layers, normalisation, and a classifier's head. A vector a text:
 * a few thousandths of what the encoder computes, so it is done here, in float32 with float64 sums.
 */
import type { DenseWeights, EncoderCheckpoint } from "../../checkpoint/encoder/open.ts";

export type VectorStep = (vector: Float32Array) => Float32Array;

/** Reads the weights that the steps want. */
export function afterPooling(checkpoint: EncoderCheckpoint): VectorStep {
  const steps = checkpoint.modules.after.map((module): VectorStep => {
    if (module.type === "normalize") return normalised;
    const weights = checkpoint.dense(module);
    const bend = module.activation === "tanh" ? Math.tanh : (x: number) => x;
    return (vector) => dense(vector, weights).map(bend);
  });
  return (vector) => steps.reduce((now, step) => step(now), vector);
}

/** What a classifier makes of a text's first token; of a single label it is the score. */
export function classifierOf(
  { weights, config: { labels, scoring } }: Pick<EncoderCheckpoint, "weights" | "config">,
): VectorStep {
  const squash = labels === 1 && scoring === "sigmoid"
    ? (logit: number) => 1 / (1 + Math.exp(-logit))
    : (logit: number) => logit;
  const [inner, out] = ["head.dense", "head.out"].map((name) => ({
    weight: weights.read(`${name}.weight`),
    bias: weights.read(`${name}.bias`),
  }));
  return (vector) => dense(dense(vector, inner).map(Math.tanh), out).map(squash);
}

function dense(vector: Float32Array, { weight, bias }: DenseWeights): Float32Array {
  const width = vector.length;
  return Float32Array.from({ length: weight.length / width }, (_, row) => {
    let sum = bias?.[row] ?? 0;
    for (let i = 0; i < width; i++) sum += vector[i] * weight[row * width + i];
    return sum;
  });
}

/** Of length 1; PyTorch's `normalize` leaves what is shorter than 1e-12 as it divides by that. */
export function normalised(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.max(Math.sqrt(squares), 1e-12);
  return vector.map((value) => value / length);
}
