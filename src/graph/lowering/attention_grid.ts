/** What attention makes of its grid's counts alone: sizes, masks, positions. */
import type { AttentionForm, CausalForm as Form, Ops, Value } from "../ops.ts";
import type { LoweringContext } from "./lowering_context.ts";
import { onnxType } from "./onnx.ts";

const FIRST = { attributes: { axis: 0 } };

/** Batch and time as scalars in a list, int64 [1] each. */
export function sizes(context: LoweringContext, grid: Value): { batch: string; time: string } {
  const pick = (name: string, at: number) =>
    context.once(`grid.${name}`, (to) => {
      const index = context.int64(`int64.${at}`, [at]);
      context.writer.node("Gather", [context.name(grid), index], to);
    });
  return { batch: pick("batch", 0), time: pick("time", 1) };
}

/** C, how many rows a row may share. */
export function sharedCount(context: LoweringContext, rows: Value): string {
  return context.once("shared.rows", (to) => {
    const from = { attributes: { start: 1, end: 2 } };
    context.writer.node("Shape", [context.name(rows)], to, from);
  });
}

/** C·time. */
export function sharedKeys(context: LoweringContext, rows: Value, grid: Value): string {
  const { time } = sizes(context, grid);
  return context.once("shared.end", (to) => {
    context.writer.node("Mul", [sharedCount(context, rows), time], to);
  });
}

/** 0 where a token (row) sees another one (column), -inf where not: [G·time, time]. */
export function causalMask(context: LoweringContext, form: AttentionForm): string {
  const groups = form.heads / form.kvHeads;
  return context.once(`mask.tiled.${groups}.${form.window ?? "all"}`, (to) => {
    const tile = context.int64(`tile.${groups}`, [groups, 1]);
    context.writer.node("Tile", [ownMask(context, form), tile], to);
  });
}

/** The same within one head: [time, time]. */
function ownMask(
  context: LoweringContext,
  { grid, window }: Pick<AttentionForm, "grid" | "window">,
): string {
  return context.once(`mask.${window ?? "all"}`, (to) => {
    const { writer } = context;
    const columns = upTo(context, sizes(context, grid).time, "own.columns");
    writer.node("Unsqueeze", [columns, context.int64("int64.1", [1])], `${to}.rows`);
    writer.node("Greater", [columns, `${to}.rows`], `${to}.later`);
    hide(context, `${to}.later`, [columns, `${to}.rows`], window, to);
  });
}

/** For rows that share: [N, 1, time, C·time + time]. */
export function sharedMask(context: LoweringContext, form: Form): string {
  if (form.mask !== undefined) return context.name(form.mask);
  const given = { ...form, context: form.context as Value, offsets: form.offsets as Value };
  return context.once(`mask.shared.${form.window ?? "all"}`, (to) => {
    emitSharedMask(context, given, to);
  });
}

/** Emits that mask. */
export function emitSharedMask(
  context: LoweringContext,
  { context: rows, offsets, grid, window }: Ops["attentionMask"],
  to: string,
): void {
  const { writer } = context;
  const end = sharedKeys(context, rows, grid);
  const { batch, time } = sizes(context, grid);
  const one = context.int64("int64.1", [1]);
  const axes = context.int64("int64.1.2.3", [1, 2, 3]);
  writer.node("Unsqueeze", [offsets64(context, offsets), axes], `${to}.offsets`);
  const columns = upTo(context, end, "shared.columns");
  writer.node("GreaterOrEqual", [columns, `${to}.offsets`], `${to}.beyond`);
  writer.node("Unsqueeze", [upTo(context, time, "own.columns"), one], `${to}.rows`);
  writer.node("Add", [`${to}.offsets`, `${to}.rows`], `${to}.positions`);
  hide(context, `${to}.beyond`, [columns, `${to}.positions`], window, `${to}.left`);
  const full = (from: string, keys: string, name: string) => {
    writer.node("Concat", [batch, one, time, keys], `${name}.shape`, FIRST);
    return writer.node("Expand", [from, `${name}.shape`], name);
  };
  const parts = [
    full(`${to}.left`, end, `${to}.left.all`),
    full(ownMask(context, { grid, window }), time, `${to}.own.all`),
  ];
  writer.node("Concat", parts, to, { attributes: { axis: 3 } });
}

/** -inf where `hidden`, or where a column is a window or more before its row; else 0. */
function hide(
  context: LoweringContext,
  hidden: string,
  [columns, rows]: readonly [string, string],
  window: number | undefined,
  to: string,
): void {
  const { writer } = context;
  const zero = writer.constant("float.0", "float32", [], new Float32Array([0]));
  const never = writer.constant("float.-inf", "float32", [], new Float32Array([-Infinity]));
  let condition = hidden;
  if (window !== undefined) {
    const size = context.int64(`int64.scalar.${window}`, [window], []);
    writer.node("Add", [columns, size], `${to}.ends`);
    writer.node("LessOrEqual", [`${to}.ends`, rows], `${to}.gone`);
    condition = writer.node("Or", [hidden, `${to}.gone`], `${to}.hidden`);
  }
  writer.node("Where", [condition, never, zero], to);
}

/** 0, 1, … below a count [1], int64. */
function upTo(context: LoweringContext, count: string, name: string): string {
  return context.once(name, (to) => {
    const start = context.int64("int64.scalar.0", [0], []);
    const step = context.int64("int64.scalar.1", [1], []);
    context.writer.node("Squeeze", [count], `${to}.end`);
    context.writer.node("Range", [start, `${to}.end`, step], to);
  });
}

function offsets64(context: LoweringContext, offsets: Value): string {
  return context.once(`${context.name(offsets)}.64`, (to) => {
    const attributes = { to: onnxType("int64") };
    context.writer.node("Cast", [context.name(offsets)], to, { attributes });
  });
}

/** Positions of tokens for a rotation: the first one where all rows begin there, else [N, time]. */
export function positionsOf(context: LoweringContext, { offsets, positions, grid }: Form): string {
  if (positions !== undefined) return context.name(positions);
  if (offsets === undefined) return context.int64("int64.0", [0]);
  return context.once("positions.shared", (to) => emitPositions(context, offsets, grid, to));
}

/** Emits offsets[n] + t, [N, time] int64. */
export function emitPositions(
  context: LoweringContext,
  offsets: Value,
  grid: Value,
  to: string,
): void {
  const { writer } = context;
  const one = context.int64("int64.1", [1]);
  const columns = upTo(context, sizes(context, grid).time, "own.columns");
  writer.node("Unsqueeze", [offsets64(context, offsets), one], `${to}.first`);
  writer.node("Add", [`${to}.first`, columns], to);
}
