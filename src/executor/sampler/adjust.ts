/**
 * Penalties and biases: sparse changes that stand in the logits while a row is drawn. The repetition
 * penalty (arXiv 1909.05858, as in transformers) comes first, then an addition.
 */
import type { SampleRow } from "../model.ts";
import { BOUND_BLOCK } from "./graphs.ts";
import type { RowLogits } from "./row_logits.ts";

interface Asked {
  readonly wanted: SampleRow;
  readonly row: RowLogits;
}

type Changes = NonNullable<SampleRow["adjust"]>;

/** Calls' rows such that those of one turn agree on the changes of each row of logits. */
export function inTurns<T extends Asked>(asked: readonly T[]): readonly (readonly T[])[] {
  if (asked.every(({ wanted }) => wanted.adjust === undefined)) return [asked];
  const turns: T[][] = [];
  for (const one of asked) {
    const turn = turns.find((turn) => turn.every((other) => agree(one.wanted, other.wanted)));
    if (turn === undefined) turns.push([one]);
    else turn.push(one);
  }
  return turns;
}

/** Changes logits, and the bounds that they exceed, until it is disposed of. */
export function applied(asked: readonly Asked[]): Disposable {
  const before: { data: Float32Array; at: number; value: number }[] = [];
  const done = new Set<number>();
  for (const { wanted: { adjust }, row } of asked) {
    if (adjust === undefined || done.has(row.start)) continue;
    done.add(row.start);
    for (let i = 0; i < adjust.ids.length; i++) {
      const at = row.start + adjust.ids[i];
      before.push({ data: row.data, at, value: row.data[at] });
      row.data[at] = changed(row.data[at], adjust, i);
      const block = Math.floor(at / BOUND_BLOCK);
      if (row.data[at] > row.bounds[block]) row.bounds[block] = row.data[at];
    }
  }
  return {
    [Symbol.dispose]: () => before.forEach(({ data, at, value }) => data[at] = value),
  };
}

/** Every operation is rounded to float32, and the change is added as a difference. */
function changed(logit: number, { delta, repetition }: Changes, i: number): number {
  const penalty = repetition[i];
  const penalised = Math.fround(logit > 0 ? logit / penalty : logit * penalty);
  return logit + Math.fround(Math.fround(penalised + delta[i]) - logit);
}

function agree(one: SampleRow, other: SampleRow): boolean {
  if (one.row !== other.row) return true;
  if (one.adjust === undefined || other.adjust === undefined) return one.adjust === other.adjust;
  const [a, b] = [one.adjust, other.adjust];
  return same(a.ids, b.ids) && same(a.delta, b.delta) && same(a.repetition, b.repetition);
}

function same(a: Int32Array | Float32Array, b: Int32Array | Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
