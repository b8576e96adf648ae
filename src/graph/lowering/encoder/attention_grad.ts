/**
 * The pullback of a text's attention, its probabilities computed again. Trap: a cell behind a row's
 * tokens may name any token, so its query counts for nothing, as its key does.
 */
import type { BidirectionalForm, Ops } from "../../ops.ts";
import { gridShape, type LoweringContext } from "../lowering_context.ts";
import { sizes } from "../attention_grid.ts";
import { onnxType } from "../onnx.ts";
import { emitProduct } from "../products.ts";
import { onGrid, toTokens } from "./text_grid.ts";

/** Between [N, time, H, D] and [N, H, time, D]. */
const SWAP = { attributes: { perm: [0, 2, 1, 3] } };

export function emitAttentionGrad(
  context: LoweringContext,
  args: Ops["bidirectionalAttentionGrad"],
  out: string,
): void {
  const { writer } = context;
  const { heads, headDim, scale, bias } = args;
  const width = heads * headDim;
  const qkv = byHead(context, args, onGrid(context, args, args.qkv, 3 * width, `${out}.qkv`), 3);
  const [q, k, v] = ["q", "k", "v"].map((name) => `${out}.${name}`);
  writer.nodes("Split", [qkv], [q, k, v], { attributes: { axis: 1, "num_outputs": 3 } });
  const dy = byHead(context, args, onGrid(context, args, args.dy, width, `${out}.dy`), 1);
  const masks = masksOf(context, args);
  writer.node("Mul", [dy, masks.queries], `${out}.dy.own`);

  emitProduct(context, [q, k], { rank: 4, transposed: "second", scale }, `${out}.scores`);
  writer.node("Add", [`${out}.scores`, masks.keys], `${out}.masked`);
  const scores = bias === undefined
    ? `${out}.masked`
    : writer.node("Add", [`${out}.masked`, context.name(bias)], `${out}.biased`);
  writer.node("Softmax", [scores], `${out}.p`, { attributes: { axis: -1 } });

  emitProduct(context, [`${out}.dy.own`, v], { rank: 4, transposed: "second" }, `${out}.dp`);
  writer.node("Mul", [`${out}.p`, `${out}.dp`], `${out}.p.dp`);
  const last = context.int64("int64.-1", [-1]);
  writer.node("ReduceSum", [`${out}.p.dp`, last], `${out}.mean`, { attributes: { keepdims: 1 } });
  writer.node("Sub", [`${out}.dp`, `${out}.mean`], `${out}.centred`);
  writer.node("Mul", [`${out}.p`, `${out}.centred`], `${out}.ds`);

  emitProduct(context, [`${out}.ds`, k], { rank: 4, transposed: "none", scale }, `${out}.dq`);
  emitProduct(context, [`${out}.ds`, q], { rank: 4, transposed: "first", scale }, `${out}.dk`);
  const transposed = { rank: 4, transposed: "first" } as const;
  emitProduct(context, [`${out}.p`, `${out}.dy.own`], transposed, `${out}.dv`);
  const parts = ["dq", "dk", "dv"].map((name) => `${out}.${name}`);
  writer.node("Concat", parts, `${out}.heads`, { attributes: { axis: 1 } });
  writer.node("Transpose", [`${out}.heads`], `${out}.rows`, SWAP);
  toTokens(context, args, `${out}.rows`, 3 * width, out);
}

/** [N, time, parts·H·D] as [N, parts·H, time, D]. */
function byHead(
  context: LoweringContext,
  { grid, heads, headDim }: BidirectionalForm,
  rows: string,
  parts: number,
): string {
  const shape = gridShape(context, grid, parts * heads, headDim);
  context.writer.node("Reshape", [rows, shape], `${rows}.split`);
  return context.writer.node("Transpose", [`${rows}.split`], `${rows}.heads`, SWAP);
}

/** Added to scores, 0 or -inf by key [N, 1, 1, time]; and 1 or 0 by query [N, 1, time, 1]. */
function masksOf(
  context: LoweringContext,
  { grid, lengths }: BidirectionalForm,
): { readonly keys: string; readonly queries: string } {
  const { writer } = context;
  const { time } = sizes(context, grid);
  const there = context.once("texts.there", (to) => {
    const [zero, one] = [0, 1].map((n) => context.int64(`int64.${n}.scalar`, [n], []));
    writer.node("Squeeze", [time], `${to}.time`);
    writer.node("Range", [zero, `${to}.time`, one], `${to}.columns`);
    writer.node("Cast", [context.name(lengths)], `${to}.lengths`, {
      attributes: { to: onnxType("int64") },
    });
    writer.node("Unsqueeze", [`${to}.lengths`, context.int64("int64.1", [1])], `${to}.ends`);
    writer.node("Less", [`${to}.columns`, `${to}.ends`], to);
  });
  const keys = context.once("texts.keys", (to) => {
    const [none, hidden] = [0, -Infinity].map((value) =>
      writer.constant(`float.${value}`, "float32", [], new Float32Array([value]))
    );
    writer.node("Where", [there, none, hidden], `${to}.flat`);
    writer.node("Unsqueeze", [`${to}.flat`, context.int64("int64.1.2", [1, 2])], to);
  });
  const queries = context.once("texts.queries", (to) => {
    writer.node("Cast", [there], `${to}.flat`, { attributes: { to: onnxType("float32") } });
    writer.node("Unsqueeze", [`${to}.flat`, context.int64("int64.1.3", [1, 3])], to);
  });
  return { keys, queries };
}
