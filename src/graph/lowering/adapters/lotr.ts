/**
 * How LoTR's branch is computed: u = x · A and v = u · G row by row of the batch, then v · B added to
 * what it adapts. Where several modules share an input, G holds theirs side by side.
 */
import type { Node } from "../../graph.ts";
import type { Ops, Value } from "../../ops.ts";
import { emitGate, emitHalves } from "../gates.ts";
import { gridShape, type LoweringContext } from "../lowering_context.ts";

/** All modules in one product: B as one matrix, with zeros where a module's columns are not. */
export function emitLotr(context: LoweringContext, args: Ops["lotr"], out: string): void {
  const { y, b, offsets } = args;
  const v = emitInner(context, args, out);
  const factor = blockDiagonal(context, b, offsets, Number(y.shape[1]));
  context.writer.node("Gemm", [v, factor, context.name(y)], out);
}

/**
 * Gate and up are taken apart for SwiGLU anyway: taken apart before their branches are added, each has
 * its own B, and nothing is multiplied with zeros. True where it was emitted.
 */
export function fuseGate(context: LoweringContext, node: Node, next: Node): boolean {
  if (node.op !== "lotr" || next.op !== "glu") return false;
  const { y, b, offsets } = node.args;
  const half = Number(y.shape[1]) / 2;
  const whole = b.length === 2 && offsets[0] === 0 && offsets[1] === half;
  if (!whole || next.args.x !== node.out || context.uses.get(node.out.id) !== 1) return false;
  const name = context.name(node.out);
  const v = emitHalves(context, emitInner(context, node.args, name), `${name}.v`);
  const [gate, up] = emitHalves(context, context.name(y), `${name}.y`);
  const adapted = (part: string, m: 0 | 1) =>
    context.writer.node("Gemm", [v[m], context.parameter(b[m]), part], `${part}.adapted`);
  const halves = [adapted(gate, 0), adapted(up, 1)] as const;
  emitGate(context, halves, next.args.activation, context.name(next.out));
  return true;
}

/** v of each token, [T, m·r]; returns its name. */
function emitInner(
  context: LoweringContext,
  { x, a, cores, b, grid, cells, places }: Ops["lotr"],
  out: string,
): string {
  const { writer } = context;
  const rank = Number(a.shape[1]);
  const joined = context.int64(`shape.joined.${b.length * rank}`, [-1, b.length * rank]);
  const moved = (from: string, index: Value | undefined) =>
    index === undefined
      ? from
      : writer.node("Gather", [from, context.name(index)], `${from}.moved`);
  writer.node("MatMul", [context.name(x), context.parameter(a)], `${out}.u`);
  const rows = moved(`${out}.u`, cells);
  writer.node("Reshape", [rows, gridShape(context, grid, rank)], `${out}.u3`);
  writer.node("MatMul", [`${out}.u3`, context.name(cores)], `${out}.v3`);
  writer.node("Reshape", [`${out}.v3`, joined], `${out}.v`);
  return moved(`${out}.v`, places);
}

/**
 * All B of a site as one matrix [m·r, d_out]: block m in rows m·r …, columns offset_m …. Made once
 * where B is frozen, at each run where it is an input.
 */
export function blockDiagonal(
  context: LoweringContext,
  b: readonly Value[],
  offsets: readonly number[],
  width: number,
): string {
  const rank = Number(b[0]?.shape[0]);
  const name = `${b.map((factor) => factor.name).join("|")}:block`;
  if (b.some(({ kind }) => kind !== "parameter")) return joinedBlocks(context, b, offsets, width);
  return context.floatWeight(name, [b.length * rank, width], () => {
    const block = new Float32Array(b.length * rank * width);
    b.forEach((factor, m) => {
      const data = context.parameters.read(factor.name);
      const columns = Number(factor.shape[1]);
      for (let i = 0; i < rank; i++) {
        const row = data.subarray(i * columns, (i + 1) * columns);
        block.set(row, (m * rank + i) * width + (offsets[m] ?? 0));
      }
    });
    return block;
  });
}

function joinedBlocks(
  context: LoweringContext,
  b: readonly Value[],
  offsets: readonly number[],
  width: number,
): string {
  const name = `${b.map((factor) => factor.name).join("|")}:block`;
  return context.once(name, (to) => {
    const parts = b.map((factor, m) => {
      const start = offsets[m] ?? 0;
      const after = width - start - Number(factor.shape[1]);
      const pads = context.int64(`pads.${start}.${after}`, [0, start, 0, after]);
      return context.writer.node("Pad", [context.name(factor), pads], `${to}.${m}`);
    });
    context.writer.node("Concat", parts, to, { attributes: { axis: 0 } });
  });
}
