/**
 * Sampling from the definitions, in float64 over one row of logits: what the graphs are compared
 * with.
 */
import type { SampleRow } from "../../src/executor/model.ts";

/** What a row may draw. */
export interface Distribution {
  /** The most likely token after changes and mask. */
  readonly greedy: number;
  /** Of each token, after every transform; zero where one leaves it out. */
  readonly probabilities: Float64Array;
}

/** The distribution that a row asks for. */
export function distribution(logits: Float32Array, row: SampleRow): Distribution {
  const changed = Float64Array.from(logits);
  adjust(changed, logits, row.adjust);
  changed.forEach((_, token) => {
    if (!allows(row.mask, token)) changed[token] = -Infinity;
  });
  const order = descending(changed);
  const scaled = changed.map((x) => x / (row.temperature || 1));
  const threshold = Math.max(...thresholds(scaled, order, row));
  const probabilities = softmax(scaled.map((x) => x < threshold ? -Infinity : x));
  return { greedy: order[0], probabilities };
}

/** Natural logs of the softmax of a row. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const top = logits.reduce((most, x) => Math.max(most, x), -Infinity);
  const sum = logits.reduce((total, x) => total + Math.exp(x - top), 0);
  return Float64Array.from(logits, (x) => x - top - Math.log(sum));
}

/** Tokens by falling logit. */
export function descending(logits: ArrayLike<number>): number[] {
  return Array.from(logits, (_, token) => token).sort((a, b) => logits[b] - logits[a] || a - b);
}

export function allows(mask: Int32Array | undefined, token: number): boolean {
  return mask === undefined || (mask[token >> 5] >> (token & 31) & 1) === 1;
}

/** Each change meets the model's own logit: ids of a row are distinct. */
function adjust(out: Float64Array, logits: Float32Array, change: SampleRow["adjust"]): void {
  change?.ids.forEach((id, i) => {
    const penalty = change.repetition[i];
    const logit = logits[id];
    out[id] = (logit > 0 ? logit / penalty : logit * penalty) + change.delta[i];
  });
}

/** The least logits that top-k, top-p of what top-k leaves, and min-p let through. */
function thresholds(scaled: Float64Array, order: readonly number[], row: SampleRow): number[] {
  const { topK, topP, minP } = row;
  const left = order.slice(0, topK ?? order.length);
  const found = [scaled[left[left.length - 1]]];
  if (topP !== undefined && topP < 1) {
    const share = softmax(Float64Array.from(left, (token) => scaled[token]));
    let [mass, count] = [0, 0];
    while (mass < topP && count < left.length) mass += share[count++];
    found.push(scaled[left[count - 1]]);
  }
  if (minP !== undefined) found.push(scaled[order[0]] + Math.log(minP));
  return found;
}

function softmax(logits: Float64Array): Float64Array {
  const top = logits.reduce((most, x) => Math.max(most, x), -Infinity);
  const raised = logits.map((x) => Math.exp(x - top));
  const sum = raised.reduce((total, x) => total + x, 0);
  return raised.map((x) => x / sum);
}
