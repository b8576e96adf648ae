/**
 * A thread for what takes the better part of a millisecond a row: rows that may draw a large part of
 * the vocabulary under top-k, top-p or min-p, and masks that allow as much.
 */
import type { SampleRow } from "../model.ts";
import { serve } from "../../util/worker_serve.ts";
import { filtersOf, inverseOf, minPThreshold, type Shares } from "./choice.ts";
import { kthLargest } from "./row_logits.ts";
import { type DealRoom, dealRoom, type RowShares, RunningSum } from "./running_sum.ts";

export interface ManyTokens {
  readonly logits: Float32Array;
  readonly mask: Int32Array | undefined;
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
  /** Stands for a logit that is not allowed. */
  readonly filler: number;
  readonly out: Float32Array;
  /** Gets 1 where a token is allowed and 0 elsewhere. */
  readonly allowed: Float32Array | undefined;
}

export type ManyWork = ReturnType<typeof work>;

function work() {
  let room = dealRoom(0);
  return {
    keep: (many: ManyTokens) => {
      const { logits, mask } = many;
      if (room.dealt.length < logits.length) room = dealRoom(logits.length);
      if (mask === undefined) return keep(many, room);
      const out = new Float32Array(logits.length);
      allow({ logits, mask, filler: -Infinity, out, allowed: undefined });
      keep({ ...many, logits: out }, room);
    },
    allow,
  };
}

/** Writes what a row may draw. */
function keep({ logits, wanted, most, shares, out }: ManyTokens, room: DealRoom): void {
  const inverse = inverseOf(wanted);
  const { topK, topP, minP } = filtersOf(wanted, logits.length) ?? {};
  let least = topK === undefined ? -Infinity : kthLargest(logits.slice(), topK) * inverse;
  if (topP !== undefined && shares !== undefined) {
    least = Math.max(least, nucleus({ logits, ...shares, inverse }, topP, topK, room) * inverse);
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
  row: RowShares,
  topP: number,
  topK: number | undefined,
  room: DealRoom,
): number {
  let mass = 1;
  if (topK !== undefined) {
    const kept = new RunningSum(row, { count: topK });
    kept.addAll(room);
    mass = kept.sum;
  }
  const sum = new RunningSum(row, { mass: Math.fround(topP * mass) });
  sum.addAll(room);
  return sum.reached ?? -Infinity;
}

function allow({ logits, mask, filler, out, allowed }: MaskedLogits): void {
  for (let i = 0; i < logits.length; i++) {
    const bit = mask[i >> 5] >>> (i & 31) & 1;
    out[i] = bit === 1 ? logits[i] : filler;
    if (allowed !== undefined) allowed[i] = bit;
  }
}

serve(work());
