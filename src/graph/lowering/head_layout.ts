/**
 * Where heads lie: among those of packed tokens, and among those of cells on attention's grid. The
 * places are nodes, made once for all layers or by a layer for itself.
 */
import type { GraphBuilder } from "../graph.ts";
import type { AttentionForm, CausalForm, HeadLayout, Layout, Ops, Value } from "../ops.ts";
import type { LoweringContext } from "./lowering_context.ts";
import { onnxType } from "./onnx.ts";

export type CellsName = "queryCells" | "keyCells" | "valueCells" | "outCells";
export type PlacesName = Exclude<keyof HeadLayout, CellsName>;

/** Some of the `width` heads of a token. */
export interface Heads {
  readonly width: number;
  readonly first: number;
  readonly count: number;
}

/** Heads of packed tokens (q, k and v side by side) and of what comes out. */
function headsOfForm(
  { heads, kvHeads }: Pick<CausalForm, "heads" | "kvHeads">,
): { readonly [K in CellsName]: Heads } {
  const width = heads + 2 * kvHeads;
  return {
    queryCells: { width, first: 0, count: heads },
    keyCells: { width, first: heads, count: kvHeads },
    valueCells: { width, first: heads + kvHeads, count: kvHeads },
    outCells: { width: heads, first: 0, count: heads },
  };
}

/** How many heads a token has that comes out, or is packed. */
export function headCount(
  { heads, kvHeads }: Pick<CausalForm, "heads" | "kvHeads">,
  which: PlacesName,
): number {
  return which === "outPlaces" ? heads : heads + 2 * kvHeads;
}

/** The places of all heads as values of the graph, once for all layers. */
export function addHeadLayout(
  graph: GraphBuilder,
  form: AttentionForm,
  { cells, places }: Layout,
): HeadLayout {
  const { grid } = form;
  const of = headsOfForm(form);
  const at = (which: CellsName) =>
    graph.add("headCells", { cells, grid, ...of[which] }, `head.${which}`);
  const back = (which: PlacesName) =>
    graph.add("headPlaces", { places, grid, count: headCount(form, which) }, `head.${which}`);
  return {
    queryCells: at("queryCells"),
    keyCells: at("keyCells"),
    valueCells: at("valueCells"),
    outCells: at("outCells"),
    outPlaces: back("outPlaces"),
    packedPlaces: back("packedPlaces"),
  };
}

/** Where some heads of each cell lie, [N, count, time] int64. */
export function cellsOf(context: LoweringContext, form: CausalForm, which: CellsName): string {
  const given = form[which];
  if (given !== undefined) return context.name(given);
  const heads = headsOfForm(form)[which];
  return context.once(`${which}.${heads.width}`, (to) => {
    const cells = form.cells === undefined ? everyCell(context, form) : as64(context, form.cells);
    emitCells(context, onGrid(context, cells, form.grid), heads, to);
  });
}

/** Where each token's heads lie, [T, count] int64. */
export function placesOf(context: LoweringContext, form: CausalForm, which: PlacesName): string {
  const given = form[which];
  if (given !== undefined) return context.name(given);
  const count = headCount(form, which);
  return context.once(`${which}.${count}`, (to) => {
    const places = form.places === undefined
      ? everyCell(context, form)
      : as64(context, form.places);
    emitPlaces(context, form, places, count, to);
  });
}

/** Emits `headCells`. */
export function emitHeadCells(
  context: LoweringContext,
  { cells, grid, ...heads }: Ops["headCells"],
  to: string,
): void {
  emitCells(context, onGrid(context, as64(context, cells), grid), heads, to);
}

/** Emits `headPlaces`. */
export function emitHeadPlaces(
  context: LoweringContext,
  { places, grid, count }: Ops["headPlaces"],
  to: string,
): void {
  emitPlaces(context, { grid }, as64(context, places), count, to);
}

/** cells [N, time] → [N, count, time]. */
function emitCells(context: LoweringContext, cells: string, heads: Heads, to: string): void {
  const { writer } = context;
  const { width, first, count } = heads;
  const numbers = Array.from({ length: count }, (_, j) => first + j);
  const offsets = context.int64(`heads.${first}.${count}`, numbers, [count, 1]);
  writer.node("Unsqueeze", [cells, context.int64("int64.1", [1])], `${to}.rows`);
  writer.node("Mul", [`${to}.rows`, context.int64(`int64.${width}`, [width])], `${to}.starts`);
  writer.node("Add", [`${to}.starts`, offsets], to);
}

/** places [T] → [T, count]: n · count · time + j · time + c, where a place is n · time + c. */
function emitPlaces(
  context: LoweringContext,
  { grid }: Pick<CausalForm, "grid">,
  places: string,
  count: number,
  to: string,
): void {
  const { writer } = context;
  const time = context.once("grid.time", (name) => {
    writer.node("Gather", [context.name(grid), context.int64("int64.1", [1])], name);
  });
  const numbers = Array.from({ length: count }, (_, j) => j);
  const heads = context.int64(`heads.0.${count}.row`, numbers, [1, count]);
  writer.node("Div", [places, time], `${to}.n`);
  writer.node("Mul", [`${to}.n`, time], `${to}.row`);
  writer.node("Sub", [places, `${to}.row`], `${to}.column`);
  writer.node("Mul", [`${to}.row`, context.int64(`int64.${count}`, [count])], `${to}.start`);
  writer.node("Add", [`${to}.start`, `${to}.column`], `${to}.flat`);
  writer.node("Unsqueeze", [`${to}.flat`, context.int64("int64.1", [1])], `${to}.tokens`);
  writer.node("Mul", [heads, time], `${to}.heads`);
  writer.node("Add", [`${to}.tokens`, `${to}.heads`], to);
}

/** 0, 1, … as many as there are cells. */
function everyCell(context: LoweringContext, { grid }: Pick<CausalForm, "grid">): string {
  return context.once("grid.cells", (to) => {
    const { writer } = context;
    const start = context.int64("int64.scalar.0", [0], []);
    const step = context.int64("int64.scalar.1", [1], []);
    writer.node("ReduceProd", [context.name(grid)], `${to}.end`, { attributes: { keepdims: 0 } });
    writer.node("Range", [start, `${to}.end`, step], to);
  });
}

function onGrid(context: LoweringContext, cells: string, grid: Value): string {
  return context.once(`${cells}.grid`, (to) => {
    context.writer.node("Reshape", [cells, context.name(grid)], to);
  });
}

function as64(context: LoweringContext, value: Value): string {
  return context.once(`${context.name(value)}.64`, (to) => {
    const attributes = { to: onnxType("int64") };
    context.writer.node("Cast", [context.name(value)], to, { attributes });
  });
}
