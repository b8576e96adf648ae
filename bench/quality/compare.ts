/**
 * How far one distribution over next tokens is from another, row by row: what a served base loses
 * against its file in float32. In nats; the reference comes first.
 */

/** Sums over the rows that were compared. */
export interface Comparison {
  readonly rows: number;
  /** -log p of the next token, by the reference and by what is served. */
  readonly reference: number;
  readonly served: number;
  /** Squares of the rows' differences of the two, for their standard error. */
  readonly squares: number;
  /** KL(reference ‖ served). */
  readonly divergence: number;
  /** Rows whose likeliest token is the same. */
  readonly agreed: number;
}

export const NOTHING: Comparison = {
  rows: 0,
  reference: 0,
  served: 0,
  squares: 0,
  divergence: 0,
  agreed: 0,
};

/** Adds a row: the logits of both, and the token that came next. */
export function withRow(
  sums: Comparison,
  reference: Float32Array,
  served: Float32Array,
  next: number,
): Comparison {
  const [p, q] = [summary(reference), summary(served)];
  const losses = [p.logSum - reference[next], q.logSum - served[next]];
  return {
    rows: sums.rows + 1,
    reference: sums.reference + losses[0],
    served: sums.served + losses[1],
    squares: sums.squares + (losses[1] - losses[0]) ** 2,
    divergence: sums.divergence + divergenceOf(reference, p.logSum, served, q.logSum),
    agreed: sums.agreed + Number(p.top === q.top),
  };
}

interface Summary {
  readonly logSum: number;
  /** The likeliest token, the first of equals. */
  readonly top: number;
}

function summary(logits: Float32Array): Summary {
  let top = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[top]) top = i;
  const largest = logits[top];
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - largest);
  return { logSum: largest + Math.log(sum), top };
}

function divergenceOf(
  reference: Float32Array,
  referenceSum: number,
  served: Float32Array,
  servedSum: number,
): number {
  let sum = 0;
  for (let i = 0; i < reference.length; i++) {
    const logP = reference[i] - referenceSum;
    sum += Math.exp(logP) * (logP - served[i] + servedSum);
  }
  return sum;
}

/** A base's figures, rounded for people. */
export interface QualityFigure {
  readonly dtype: string;
  readonly perplexity: number;
  readonly reference: number;
  /** Perplexity over the reference's, in percent, and its standard error. */
  readonly percent: number;
  readonly error: number;
  /** Mean KL divergence, nats. */
  readonly divergence: number;
  /** Rows whose likeliest token is the same, percent. */
  readonly agreement: number;
}

export function figureOf(dtype: string, sums: Comparison): QualityFigure {
  const { rows } = sums;
  const difference = (sums.served - sums.reference) / rows;
  const deviation = Math.sqrt(Math.max(0, sums.squares / rows - difference ** 2) / rows);
  return {
    dtype,
    perplexity: Math.exp(sums.served / rows),
    reference: Math.exp(sums.reference / rows),
    percent: 100 * Math.expm1(difference),
    error: 100 * deviation,
    divergence: sums.divergence / rows,
    agreement: 100 * sums.agreed / rows,
  };
}
