/**
 * A thread for what takes the better part of a millisecond a row: rows that may draw a large part of
 * the vocabulary under top-k, top-p or min-p, and masks that allow as much.
 */
import type { SampleRow } from "../model.ts";
import { serve } from "../../util/worker_serve.ts";
import { filtersOf, inverseOf, minPThreshold, type Shares } from "./choice.ts";
import { kthLargest } from "./row_logits.ts";
import { RunningSum } from "./running_sum.ts";

export interface ManyTokens {
  /** The row's logits, `-Infinity` where a mask forbids. */
  readonly logits: Float32Array;
  readonly wanted: Pick<SampleRow, "temperature" | "topK" | "topP" | "minP">;
  /** The largest logit over the temperature. */
  readonly most: number;
  /** Where `wanted` has a top-p. */
  readonly shares: Shares | undefined;
  /** Gets the logits that may be drawn and `-Infinity` elsewhere, behind the row's end too. */
  readonly out: Float32Array;
}

export interface MaskedLogits {
  readonly logits: Float32Array;
  readonly mask: Int32Array;
  /** Gets the logits that are allowed and `-Infinity` elsewhere. */
  readonly out: Float32Array;
}

const work = { keep, allow };
export type ManyWork = typeof work;

/** Writes what a row may draw. */
function keep({ logits, wanted, most, shares, out }: ManyTokens): void {
  const inverse = inverseOf(wanted);
  const { topK, topP, minP } = filtersOf(wanted, logits.length) ?? {};
  let least = topK === undefined ? -Infinity : kthLargest(logits.slice(), topK) * inverse;
  if (topP !== undefined && shares !== undefined) {
    least = Math.max(least, nucleus(logits, topP, topK, shares) * inverse);
  }
  least = Math.fround(least);
  if (minP !== undefined) least = Math.max(least, minPThreshold(most, minP));
  for (let i = 0; i < logits.length; i++) {
    out[i] = Math.fround(logits[i] * inverse) >= least ? logits[i] : -Infinity;
  }
  out.fill(-Infinity, logits.length);
}

/** The logit at which the running sum of shares reaches top-p of what top-k leaves. */
function nucleus(
  logits: Float32Array,
  topP: number,
  topK: number | undefined,
  { exps, total }: Shares,
): number {
  const row = { logits, exps, total };
  let mass = 1;
  if (topK !== undefined) {
    const kept = new RunningSum(row, { count: topK });
    kept.addAll();
    mass = kept.sum;
  }
  const sum = new RunningSum(row, { mass: Math.fround(topP * mass) });
  sum.addAll();
  return sum.reached ?? -Infinity;
}

function allow({ logits, mask, out }: MaskedLogits): void {
  for (let i = 0; i < logits.length; i++) {
    out[i] = (mask[i >> 5] >>> (i & 31) & 1) === 1 ? logits[i] : -Infinity;
  }
}

serve(work);
