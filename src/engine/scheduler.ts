/**
 * The policy: what the next run of a lane is, and who gives way when memory is short. Pure: it reads
 * sequences and numbers and returns plans; it runs, moves and frees nothing.
 *
 * A step is at most one prefill and one decode run over all rows. A prefill is a batch of first
 * prompts, the next chunk of one long prompt, or one row whose prefix is cached (a few of these in a
 * row, as they are short). While a long prompt goes through in chunks, batches of first prompts take
 * turns with it. Nobody is overtaken for want of memory.
 */
import type { Lane } from "./lane.ts";
import { GRANULE_TOKENS, kvBytes } from "./memory.ts";
import type { Sequence } from "./sequence.ts";
import { comparePlaces } from "./waiting.ts";

/** A batch of first prompts computes at most 1/0.75 tokens for each wanted one. */
const LEAST_FILL = 0.75;
/** Waiting sequences looked at for one batch, in batches' sizes. */
const WINDOW = 4;

export interface PrefillView {
  readonly lane: Lane;
  /** All lanes' waiting sequences, in order. */
  readonly waiting: readonly Sequence[];
  /** Rows of all lanes: each may need room to grow. */
  readonly admitted: readonly Sequence[];
  /** Bytes that may be reserved, cached prefixes counted as free. */
  readonly freeBytes: number;
  /** Tokens of a sequence that its cached prefix would save; 0 = none worth taking. */
  hit(sequence: Sequence): number;
}

export type PrefillPlan =
  | { readonly kind: "none" }
  /** A row in prefill computes its next chunk. */
  | { readonly kind: "chunk"; readonly sequence: Sequence }
  /** Admitted alone: its cached prefix is loaded, or its prompt is longer than a chunk. */
  | { readonly kind: "single"; readonly sequence: Sequence }
  /** Admitted together, each computing all its tokens. */
  | { readonly kind: "batch"; readonly sequences: readonly Sequence[] };

/** The next prefill run of a lane. */
export function planPrefill(view: PrefillView): PrefillPlan {
  const partial = view.lane.rows.find((row) => row.state === "prefill");
  if (partial !== undefined && !view.lane.continued) return { kind: "chunk", sequence: partial };
  const admission = planAdmission(view, partial !== undefined);
  if (admission.kind !== "none" || partial === undefined) return admission;
  return { kind: "chunk", sequence: partial };
}

/**
 * Whom to admit: the first in line, and those behind it that fit into its batch. Where a row is
 * `partial` already, no second long prompt joins it.
 */
function planAdmission(view: PrefillView, partial: boolean): PrefillPlan {
  const { lane } = view;
  const chunk = lane.model.prefillTokens;
  const batch: Sequence[] = [];
  let free = view.freeBytes - headroom(view.admitted);
  let slots = lane.freeSlots;
  let filled = 0;
  let longest = 0;
  let left = WINDOW * lane.model.maxBatch;
  for (const sequence of view.waiting) {
    if (slots === 0 || left-- === 0) break;
    if (sequence.lane.freeSlots === 0) continue;
    free -= bytesOf(sequence);
    if (free < 0) break;
    if (sequence.lane !== lane) continue;
    slots--;
    const hit = view.hit(sequence);
    const long = sequence.length - hit > chunk;
    if (hit > 0 || long) {
      if (batch.length === 0 && (!long || !partial)) return { kind: "single", sequence };
      continue;
    }
    const padded = (batch.length + 1) * Math.max(longest, sequence.length);
    const fill = (filled + sequence.length) / padded;
    if (padded > chunk || fill < LEAST_FILL) continue;
    batch.push(sequence);
    filled += sequence.length;
    longest = Math.max(longest, sequence.length);
  }
  return batch.length === 0 ? { kind: "none" } : { kind: "batch", sequences: batch };
}

/** One granule for each admitted row, so that an admission does not at once cause a preemption. */
function headroom(admitted: readonly Sequence[]): number {
  let bytes = 0;
  for (const row of admitted) bytes += GRANULE_TOKENS * row.lane.model.kvBytesPerToken;
  return bytes;
}

/** Bytes a sequence's row takes with all tokens it has. */
export function bytesOf(sequence: Sequence): number {
  return kvBytes(sequence.length, sequence.lane.model.kvBytesPerToken);
}

/**
 * Who gives way so that a lane's rows can each take one more token: the newest of the lowest
 * priority, whatever lane they are in. Empty where memory suffices. The best placed row always stays: alone it
 * fits.
 */
export function planPreemption(
  lane: Lane,
  admitted: readonly Sequence[],
  freeBytes: number,
): readonly Sequence[] {
  let missing = -freeBytes;
  for (const row of lane.rows) missing += bytesOf(row) - row.reserved;
  if (missing <= 0) return [];
  const worstFirst = [...admitted].sort((a, b) => comparePlaces(b.place, a.place));
  const victims: Sequence[] = [];
  for (const row of worstFirst) {
    if (missing <= 0) break;
    victims.push(row);
    missing -= row.lane === lane ? bytesOf(row) : row.reserved;
  }
  return victims;
}
