/**
 * How LoRA's branch is computed: tokens go to the cells of their pieces, each piece's A and B in a
 * batched product, and each token sums what its cells hold. A decode step's cells are its rows, so
 * that a piece's A and B are read once and nothing else is.
 */
import type { Ops } from "../../ops.ts";
import type { LoweringContext } from "../lowering_context.ts";

/** All modules of a site. */
export function emitLora(
  context: LoweringContext,
  { x, y, a, b, offsets, cells, places }: Ops["lora"],
  out: string,
): void {
  const { writer } = context;
  const widths = b.map(({ shape }) => Number(shape[3]));
  const total = widths.reduce((sum, width) => sum + width, 0);
  writer.node("Gather", [context.name(x), context.name(cells)], `${out}.x`);
  const parts = a.map((factor, m) => {
    writer.node("MatMul", [`${out}.x`, context.name(factor)], `${out}.u${m}`);
    return writer.node("MatMul", [`${out}.u${m}`, context.name(b[m])], `${out}.v${m}`);
  });
  const joined = parts.length === 1
    ? parts[0]
    : writer.node("Concat", parts, `${out}.v`, { attributes: { axis: 3 } });
  const rows = context.int64(`shape.joined.${total}`, [-1, total]);
  writer.node("Reshape", [joined, rows], `${out}.cells`);
  writer.node("Gather", [`${out}.cells`, context.name(places)], `${out}.pieces`);
  const summed = writer.node(
    "ReduceSum",
    [`${out}.pieces`, context.int64("int64.1", [1])],
    `${out}.summed`,
    { attributes: { keepdims: 0 } },
  );
  const width = Number(y.shape[1]);
  if (total === width) writer.node("Add", [context.name(y), summed], out);
  else addToParts(context, { name: context.name(y), width }, { summed, widths, offsets }, out);
}

/** Adds to some columns of y: taken apart, and joined again. */
function addToParts(
  context: LoweringContext,
  y: { readonly name: string; readonly width: number },
  { summed, widths, offsets }: {
    readonly summed: string;
    readonly widths: readonly number[];
    readonly offsets: readonly number[];
  },
  out: string,
): void {
  const { writer } = context;
  const split = (from: string, sizes: readonly number[], to: readonly string[]) => {
    if (sizes.length === 1) return [from];
    const inputs = [from, context.int64(`split.${sizes.join(".")}`, sizes)];
    writer.nodes("Split", inputs, to, { attributes: { axis: 1 } });
    return to;
  };
  const ends = offsets.map((start, m) => start + widths[m]);
  const starts = [...new Set([0, ...offsets, ...ends])]
    .filter((start) => start < y.width)
    .sort((left, right) => left - right);
  const sizes = starts.map((start, i) => (starts[i + 1] ?? y.width) - start);
  const kept = split(y.name, sizes, starts.map((start) => `${out}.y${start}`));
  const added = split(summed, widths, offsets.map((start) => `${summed}${start}`));
  const parts = starts.map((start, i) => {
    const m = offsets.indexOf(start);
    return m < 0 ? kept[i] : writer.node("Add", [kept[i], added[m]], `${out}.added${start}`);
  });
  writer.node("Concat", parts, out, { attributes: { axis: 1 } });
}
