/**
 * A micro-batch as a graph's inputs: the rows' tokens one after the other, what rows share behind
 * them, where all of them lie on attention's grid, and the positions that carry loss with their
 * targets and weights. Also the way back, from losses by position to losses by row.
 */
import { type BatchRow, computedLength, type RowLoss, type Teaching } from "./model.ts";
import type { Sizes } from "./program_memory.ts";
import { layOut } from "../micro_batches.ts";

/** Loss positions and tokens are padded to a multiple of this, so that few distinct shapes occur. */
const STEP = 16;

export interface Packed {
  readonly sizes: Sizes;
  /** [tokens], 0 where padded. */
  readonly ids: Int32Array;
  /** [cells] and [tokens]: `Layout` in `graph/ops.ts`. */
  readonly cells: Int32Array;
  readonly places: Int32Array;
  /** [batch, contexts]: the rows that hold what a row shares. */
  readonly context: Int32Array;
  /** [batch]: how many tokens of them it sees. */
  readonly offsets: Int32Array;
  /** [batch]: whose row it is. */
  readonly trainables: Int32Array;
  /** [rows]: the token whose logits predict … */
  readonly positions: Int32Array;
  /** … this one, … */
  readonly targets: Int32Array;
  /** … and how much that counts; 0 where padded. */
  readonly weights: Float32Array;
  /** [rows, K] and [rows, K + 1]: what a teacher says of them; zeros where padded, empty without one. */
  readonly taught: Int32Array;
  readonly shares: Float32Array;
  /** The micro-batch's row of each position that is not padding. */
  readonly owners: Int32Array;
}

/** A row of the grid. */
interface GridRow {
  readonly trainable: number;
  readonly tokens: Int32Array;
  readonly offset: number;
  readonly context: readonly number[];
}

/** @throws {RangeError} for no row, or one without tokens. */
export function pack(rows: readonly BatchRow[]): Packed {
  const count = Math.max(0, ...rows.map(({ trainable }) => trainable + 1));
  const groups = Array.from(
    { length: count },
    (_, i) => rows.filter(({ trainable }) => trainable === i).map(({ example }) => example),
  );
  const { time, shared } = layOut(groups);
  if (rows.length === 0 || rows.some(({ example }) => example.tokens.length === 0)) {
    throw new RangeError("Cannot train on a micro-batch without rows, or rows without tokens");
  }
  return gridInputs(rows, groups.map(([first]) => first?.tokens), time, shared);
}

/** Sums by row of what each position lost and hit. */
export function lossesOf(
  packed: Packed,
  rows: number,
  loss: ArrayLike<number>,
  hits: ArrayLike<number>,
): RowLoss[] {
  const sums = Array.from({ length: rows }, () => ({ loss: 0, weight: 0, hits: 0, tokens: 0 }));
  packed.owners.forEach((row, i) => {
    const sum = sums[row];
    sum.loss += packed.weights[i] * loss[i];
    sum.weight += packed.weights[i];
    sum.hits += hits[i];
    sum.tokens++;
  });
  return sums;
}

function gridInputs(
  rows: readonly BatchRow[],
  prefixes: readonly (Int32Array | undefined)[],
  time: number,
  shared: readonly number[],
): Packed {
  const behind: GridRow[] = [];
  const chains = shared.map((length, trainable) => {
    const chain: number[] = [];
    for (let offset = 0; offset < length; offset += time) {
      const tokens = prefixes[trainable]?.subarray(offset, Math.min(length, offset + time));
      behind.push({ trainable, tokens: tokens ?? new Int32Array(), offset, context: [...chain] });
      chain.push(rows.length + behind.length - 1);
    }
    return chain;
  });
  const own = rows.map(({ trainable, example }): GridRow => ({
    trainable,
    tokens: example.tokens.subarray(shared[trainable], computedLength(example)),
    offset: shared[trainable],
    context: chains[trainable],
  }));
  const grid = [...own, ...behind];
  const losses = lossInputs(rows, own, shared);
  const contexts = Math.max(0, ...grid.map(({ context }) => context.length));
  const { length: batch } = grid;
  const tokens = placed(grid, time);
  const sizes = {
    tokens: tokens.ids.length,
    cells: batch * time,
    batch,
    rows: losses.positions.length,
    time,
    contexts,
    keys: (contexts + 1) * time,
  };
  const context = new Int32Array(batch * contexts);
  grid.forEach((row, i) => context.set(row.context, i * contexts));
  const offsets = Int32Array.from(grid, ({ offset }) => offset);
  const trainables = Int32Array.from(grid, ({ trainable }) => trainable);
  return { sizes, ...tokens, context, offsets, trainables, ...losses };
}

/** Tokens one after the other and their cells; tokens of padding, in one empty cell, behind them. */
function placed(
  grid: readonly GridRow[],
  time: number,
): Pick<Packed, "ids" | "cells" | "places"> {
  const count = grid.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const full = count === grid.length * time;
  const ids = new Int32Array(full ? count : Math.ceil((count + 1) / STEP) * STEP);
  const cells = new Int32Array(grid.length * time).fill(count);
  const places = new Int32Array(ids.length);
  let at = 0;
  grid.forEach(({ tokens }, row) => {
    ids.set(tokens, at);
    for (let i = 0; i < tokens.length; i++) {
      cells[row * time + i] = at;
      places[at++] = row * time + i;
    }
  });
  if (!full) places.fill(cells.indexOf(count), count);
  return { ids, cells, places };
}

function lossInputs(
  rows: readonly BatchRow[],
  own: readonly GridRow[],
  shared: readonly number[],
): Pick<Packed, "positions" | "targets" | "weights" | "taught" | "shares" | "owners"> {
  const losses = lossPositions(rows);
  const count = Math.max(1, Math.ceil(losses.length / STEP)) * STEP;
  const starts: number[] = [];
  own.reduce((at, { tokens }, row) => (starts[row] = at) + tokens.length, 0);
  const positions = new Int32Array(count);
  const targets = new Int32Array(count);
  const weights = new Float32Array(count);
  losses.forEach(({ row, position }, i) => {
    const { example, trainable } = rows[row];
    positions[i] = starts[row] + position - 1 - shared[trainable];
    targets[i] = example.tokens[position];
    weights[i] = example.weights[position];
  });
  const owners = Int32Array.from(losses, ({ row }) => row);
  const { count: each, tokens: taught, shares } = teachingOf(rows, count);
  // what is compared with the likeliest token of the student is the teacher's
  owners.forEach((_, i) => targets[i] = taught[i * each] ?? targets[i]);
  return { positions, targets, weights, taught, shares, owners };
}

/** What rows are taught, one after the other, in so many rows of loss. */
function teachingOf(rows: readonly BatchRow[], room: number): Teaching {
  const given = rows.flatMap(({ example: { teaching } }) => teaching ?? []);
  const count = given[0]?.count ?? 0;
  if (given.some((one) => one.count !== count) || ![0, rows.length].includes(given.length)) {
    throw new RangeError("internal: rows of a micro-batch are not taught alike");
  }
  const taught = new Int32Array(room * count);
  const shares = new Float32Array(count === 0 ? 0 : room * (count + 1));
  let at = 0;
  for (const { tokens, shares: own } of given) {
    taught.set(tokens, at * count);
    shares.set(own, at * (count + 1));
    at += tokens.length / count;
  }
  return { count, tokens: taught, shares };
}

/** The first token predicts the second: nothing predicts the first. */
function lossPositions(
  rows: readonly BatchRow[],
): { readonly row: number; readonly position: number }[] {
  return rows.flatMap(({ example }, row) =>
    Array.from(example.weights, (weight, position) => ({ weight, row, position }))
      .filter(({ weight, position }) => weight !== 0 && position > 0)
  );
}
