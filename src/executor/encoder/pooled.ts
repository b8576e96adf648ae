/**
 * Pooling: a text's vector as a weighted sum of its tokens, which the graph computes for all texts in
 * one product, or their largest values, which are taken here.
 */
import type { Pooling } from "../../checkpoint/encoder/modules.ts";
import type { TextLayout } from "./text_layout.ts";

/** What token i of n weighs in each kind of sum. */
const WEIGHTS: Readonly<Record<Exclude<Pooling, "max">, (i: number, n: number) => number>> = {
  mean: (_, n) => 1 / n,
  cls: (i) => i === 0 ? 1 : 0,
  last: (i, n) => i === n - 1 ? 1 : 0,
  meanSqrtLen: (_, n) => 1 / Math.sqrt(n),
  weightedMean: (i, n) => (i + 1) / (n * (n + 1) / 2),
};

/** [texts · poolings, tokens], one text's poolings side by side; undefined where one is no sum. */
export function poolingRows(
  poolings: readonly Pooling[],
  { lengths, starts, tokens }: TextLayout,
): Float32Array<ArrayBuffer> | undefined {
  const sums = poolings.map((pooling) => pooling === "max" ? undefined : WEIGHTS[pooling]);
  const weights = new Float32Array(lengths.length * poolings.length * tokens);
  let row = 0;
  for (const [text, length] of lengths.entries()) {
    for (const weigh of sums) {
      if (weigh === undefined) return undefined;
      const from = row++ * tokens + starts[text];
      for (let i = 0; i < length; i++) weights[from + i] = weigh(i, length);
    }
  }
  return weights;
}

/** Each text's vector of what a pass put out: sums, or hidden states [tokens, d]. */
export function vectorsOf(
  poolings: readonly Pooling[],
  layout: TextLayout,
  out: Float32Array,
  width: number,
): readonly Float32Array[] {
  const size = poolings.length * width;
  if (!poolings.includes("max")) {
    return layout.starts.map((_, text) => out.slice(text * size, (text + 1) * size));
  }
  return layout.starts.map((start, text) => {
    const count = layout.lengths[text];
    const vector = new Float32Array(size);
    poolings.forEach((pooling, i) => {
      for (let d = 0; d < width; d++) {
        const values = Array.from({ length: count }, (_, t) => out[(start + t) * width + d]);
        vector[i * width + d] = pooling === "max"
          ? Math.max(...values)
          : values.reduce((sum, value, t) => sum + value * WEIGHTS[pooling](t, count), 0);
      }
    });
    return vector;
  });
}
