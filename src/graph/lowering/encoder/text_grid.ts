/** Packed tokens of texts as rows of a grid, and the way back, for attention. */
import type { BidirectionalForm, Value } from "../../ops.ts";
import { gridShape, type LoweringContext } from "../lowering_context.ts";

/** Tokens [T, width] as rows [N, time, width]. */
export function onGrid(
  context: LoweringContext,
  { grid, cells }: BidirectionalForm,
  tokens: Value,
  width: number,
  to: string,
): string {
  const { writer } = context;
  const from = context.name(tokens);
  const placed = cells === undefined
    ? from
    : writer.node("Gather", [from, context.name(cells)], `${to}.cells`);
  return writer.node("Reshape", [placed, gridShape(context, grid, width)], `${to}.grid`);
}

/** The way back, as `out`. */
export function toTokens(
  context: LoweringContext,
  { places }: BidirectionalForm,
  rows: string,
  width: number,
  out: string,
): void {
  const { writer } = context;
  const flat = context.int64(`shape.joined.${width}`, [-1, width]);
  if (places === undefined) return void writer.node("Reshape", [rows, flat], out);
  writer.node("Reshape", [rows, flat], `${out}.cells`);
  writer.node("Gather", [`${out}.cells`, context.name(places)], out);
}
