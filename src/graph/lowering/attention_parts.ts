/**
 * The parts that attention without caches and its pullback are lowered to: heads and tokens in
 * turn, rotation by position, and the keys that rows share.
 */
import type { CausalForm, Ops, Value } from "../ops.ts";
import {
  causalMask,
  positionsOf,
  sharedCount,
  sharedKeys,
  sharedMask,
  sizes,
} from "./attention_grid.ts";
import { emitCapped } from "./gates.ts";
import type { LoweringContext } from "./lowering_context.ts";
import { MICROSOFT, onnxType } from "./onnx.ts";
import { emitProduct } from "./products.ts";
import { type CellsName, cellsOf, headCount, type PlacesName, placesOf } from "./head_layout.ts";

const FUSED = { domain: MICROSOFT };
const FIRST = { attributes: { axis: 0 } };
/** Rows may share nothing: a dimension of 0 is meant. */
const EMPTY = { attributes: { allowzero: 1 } };
/** Between [N, C, KV, time, D] and [N, KV, C, time, D]. */
const SWAP = { attributes: { perm: [0, 2, 1, 3, 4] } };

/** GroupQueryAttention's counts where every row is a first prompt of `time` tokens. */
export function firstPrompts(
  context: LoweringContext,
  grid: Value,
): { lengths: string; total: string } {
  const { writer } = context;
  const { batch, time } = sizes(context, grid);
  const total = context.once("grid.total", (to) => {
    writer.node("Cast", [time], to, { attributes: { to: onnxType("int32") } });
  });
  const lengths = context.once("grid.lengths", (to) => {
    const one = writer.constant("int32.1", "int32", [], new Int32Array([1]));
    writer.node("Sub", [total, one], `${to}.one`);
    writer.node("Expand", [`${to}.one`, batch], to);
  });
  return { lengths, total };
}

/** Queries, and the keys and values that they see. */
export interface SeenHeads {
  /** [N, KV, G·time, D], rotated. */
  readonly q: string;
  /** [N, KV, keys, D], rotated; keys = what is shared, then the row's own `time`. */
  readonly k: string;
  readonly v: string;
}

type Form = CausalForm;

/** Heads of packed tokens, q and k rotated, keys and values with the shared ones before them. */
export function seenHeads(
  context: LoweringContext,
  form: Form,
  qkv: string,
  out: string,
): SeenHeads {
  const heads = (which: CellsName, name: string) =>
    taken(context, form, qkv, which, `${out}.${name}`);
  const turned = (which: CellsName, name: string) =>
    rotate(context, form, heads(which, name), "forth", `${out}.${name}.r`);
  return {
    q: byGroup(context, form, turned("queryCells", "q"), `${out}.q.h`),
    k: withShared(context, form, turned("keyCells", "k")),
    v: withShared(context, form, heads("valueCells", "v")),
  };
}

/** Those heads of tokens [T, width·D] that each cell reads, [N, count, time, D]. */
function taken(
  context: LoweringContext,
  form: Form,
  from: string,
  which: CellsName,
  to: string,
): string {
  const { writer } = context;
  const { headDim } = form;
  const rows = context.once(`${from}.heads`, (name) => {
    const shape = context.int64(`shape.head.${headDim}`, [-1, headDim]);
    writer.node("Reshape", [from, shape], name);
  });
  return writer.node("Gather", [rows, cellsOf(context, form, which)], to);
}

/** [N, H, time, D] as [N, KV, G·time, D]: heads that share a key-value head one after another. */
function byGroup(
  context: LoweringContext,
  { kvHeads, headDim }: Form,
  from: string,
  to: string,
): string {
  const shape = context.int64(`shape.kv.${kvHeads}.${headDim}`, [0, kvHeads, -1, headDim]);
  return context.writer.node("Reshape", [from, shape], to);
}

/** The way back, to [N, heads, time, D]. */
export function byHead(
  context: LoweringContext,
  { grid, headDim }: Form,
  from: string,
  heads: number,
): string {
  const { writer } = context;
  const { batch, time } = sizes(context, grid);
  const shape = context.once(`shape.by_head.${heads}.${headDim}`, (name) => {
    const count = context.int64(`int64.${heads}`, [heads]);
    const dim = context.int64(`int64.${headDim}`, [headDim]);
    writer.node("Concat", [batch, count, time, dim], name, FIRST);
  });
  return writer.node("Reshape", [from, shape], `${from}.split`);
}

/** Emits softmax of the masked scores as `OUT.p`, [N, KV, G·time, keys]. */
export function probabilities(
  context: LoweringContext,
  form: Form,
  { q, k }: SeenHeads,
  out: string,
): void {
  const { writer } = context;
  const { scale, cap } = form;
  const raw = cap === undefined ? `${out}.scores` : `${out}.scores.raw`;
  emitProduct(context, [q, k], { rank: 4, transposed: "second", scale }, raw);
  if (cap !== undefined) emitCapped(context, raw, cap, `${out}.scores`);
  const softmax = { attributes: { axis: -1 } };
  if (form.context === undefined) {
    writer.node("Add", [`${out}.scores`, causalMask(context, form)], `${out}.masked`);
    writer.node("Softmax", [`${out}.masked`], `${out}.p`, softmax);
    return;
  }
  const { batch, time } = sizes(context, form.grid);
  const apart = context.once(`shape.scores.${form.heads}`, (to) => {
    const parts = [batch, context.int64(`int64.${form.heads}`, [form.heads]), time];
    writer.node("Concat", [...parts, context.int64("int64.-1", [-1])], to, FIRST);
  });
  const grouped = context.once(`shape.grouped.${form.kvHeads}`, (to) => {
    writer.node("Shape", [`${out}.scores`], to);
  });
  writer.node("Reshape", [`${out}.scores`, apart], `${out}.scores.h`);
  writer.node("Add", [`${out}.scores.h`, sharedMask(context, form)], `${out}.masked`);
  writer.node("Softmax", [`${out}.masked`], `${out}.p.h`, softmax);
  writer.node("Reshape", [`${out}.p.h`, grouped], `${out}.p`);
}

/** Keys or values [N, KV, time, D] behind those of the rows that each row shares. */
function withShared(context: LoweringContext, form: Form, own: string): string {
  if (form.context === undefined) return own;
  const { writer } = context;
  const { split, joined } = sharedShapes(context, form);
  writer.node("Gather", [own, sharedRows(context, form.context)], `${own}.shared.rows`);
  writer.node("Reshape", [`${own}.shared.rows`, split], `${own}.shared.split`, EMPTY);
  writer.node("Transpose", [`${own}.shared.split`], `${own}.shared.turned`, SWAP);
  writer.node("Reshape", [`${own}.shared.turned`, joined], `${own}.shared`, EMPTY);
  return writer.node("Concat", [`${own}.shared`, own], `${own}.all`, { attributes: { axis: 2 } });
}

/** The pullback of that: gradients by shared keys go back to the rows that they are of. */
export function ownShare(context: LoweringContext, form: Form, gradient: string): string {
  if (form.context === undefined) return gradient;
  const { writer } = context;
  const { turned, rows, end } = sharedShapes(context, form);
  const slice = (from: string, to: string, name: string) =>
    writer.node("Slice", [gradient, from, to, context.int64("int64.2", [2])], name);
  slice(context.int64("int64.0", [0]), end, `${gradient}.shared`);
  slice(end, context.int64("int64.max", [2 ** 31]), `${gradient}.own`);
  writer.node("Reshape", [`${gradient}.shared`, turned], `${gradient}.turned`, EMPTY);
  writer.node("Transpose", [`${gradient}.turned`], `${gradient}.split`, SWAP);
  writer.node("Reshape", [`${gradient}.split`, rows], `${gradient}.rows`, EMPTY);
  const index = context.once(`${sharedRows(context, form.context)}.column`, (to) => {
    const inputs = [sharedRows(context, form.context as Value), context.int64("int64.1", [1])];
    writer.node("Unsqueeze", inputs, to);
  });
  const inputs = [`${gradient}.own`, index, `${gradient}.rows`];
  const attributes = { reduction: "add" };
  return writer.node("ScatterND", inputs, `${gradient}.sum`, { attributes });
}

/** Rows that are shared, [N·C] int64. */
function sharedRows(context: LoweringContext, rows: Value): string {
  return context.once(`${context.name(rows)}.flat`, (to) => {
    const attributes = { to: onnxType("int64") };
    context.writer.node("Cast", [context.name(rows)], `${to}.64`, { attributes });
    context.writer.node("Reshape", [`${to}.64`, context.int64("int64.-1", [-1])], to);
  });
}

/** Shapes between rows and the keys that they make for others, and C·time. */
function sharedShapes(context: LoweringContext, form: Form) {
  const { writer } = context;
  const { kvHeads, headDim, grid } = form;
  const { batch, time } = sizes(context, grid);
  const [heads, dim] = [`int64.${kvHeads}`, `int64.${headDim}`];
  context.int64(heads, [kvHeads]);
  context.int64(dim, [headDim]);
  const shared = form.context as Value;
  const rows = sharedCount(context, shared);
  const concat = (name: string, parts: readonly string[]) =>
    context.once(`${name}.${kvHeads}.${headDim}`, (to) => {
      writer.node("Concat", parts, to, FIRST);
    });
  const end = sharedKeys(context, shared, grid);
  const count = context.once("shared.count", (to) => void writer.node("Mul", [batch, rows], to));
  return {
    split: concat("shared.split", [batch, rows, heads, time, dim]),
    joined: concat("shared.joined", [batch, heads, end, dim]),
    turned: concat("shared.turned", [batch, heads, rows, time, dim]),
    rows: concat("shared.each", [count, heads, time, dim]),
    end,
  };
}

/** Rotates heads [N, H, time, D] by position, or back. */
export function rotate(
  context: LoweringContext,
  form: Form,
  from: string,
  direction: "forth" | "back",
  to: string,
): string {
  const { cos, sin, headDim, interleaved = false } = form;
  const turn = direction === "forth" ? context.parameter(sin) : context.weight(
    `${sin.name}:negated`,
    "float32",
    sin.shape.map(Number),
    () => context.parameters.read(sin.name).map((value) => -value),
  );
  const inputs = [from, positionsOf(context, form), context.parameter(cos), turn];
  const turned = 2 * Number(cos.shape[1]);
  return context.writer.node("RotaryEmbedding", inputs, to, {
    ...FUSED,
    attributes: {
      ...(interleaved ? { interleaved: 1 } : {}),
      // the kernel takes the head's size from its input alone where all of it turns
      ...(turned === headDim ? {} : { "num_heads": form.heads, "rotary_embedding_dim": turned }),
    },
  });
}

/** [T, H·D] of tokens as [N, KV, G·time, D]. */
export function headsOf(context: LoweringContext, form: Form, from: string, to: string): string {
  return byGroup(context, form, taken(context, form, from, "outCells", `${to}.cells`), to);
}

/** Σ p · dp of each query, [N, KV, G·time, 1]: dy · out (FlashAttention-2, arXiv 2307.08691). */
export function dotsOf(
  context: LoweringContext,
  form: Form & Pick<Ops["causalAttentionGrad"], "out" | "dy">,
  to: string,
): string {
  const { writer } = context;
  const { kvHeads, headDim } = form;
  const apart = context.int64(`shape.head.${headDim}`, [-1, headDim]);
  writer.node("Mul", [context.name(form.dy), context.name(form.out)], `${to}.products`);
  writer.node("Reshape", [`${to}.products`, apart], `${to}.heads`);
  const last = { attributes: { keepdims: 0 } };
  writer.node("ReduceSum", [`${to}.heads`, context.int64("int64.-1", [-1])], `${to}.sums`, last);
  writer.node("Gather", [`${to}.sums`, cellsOf(context, form, "outCells")], `${to}.cells`);
  const shape = context.int64(`shape.dots.${kvHeads}`, [0, kvHeads, -1, 1]);
  return writer.node("Reshape", [`${to}.cells`, shape], to);
}

/** The way back: heads of cells as tokens, [T, H·D] or packed [T, (H + 2·KV)·D]. */
export function tokensOf(
  context: LoweringContext,
  form: Form,
  from: string,
  which: PlacesName,
  to: string,
): void {
  const { writer } = context;
  const { headDim } = form;
  const width = headCount(form, which) * headDim;
  const apart = context.int64(`shape.head.${headDim}`, [-1, headDim]);
  writer.node("Reshape", [from, apart], `${to}.rows`);
  writer.node("Gather", [`${to}.rows`, placesOf(context, form, which)], `${to}.taken`);
  const joined = context.int64(`shape.joined.${width}`, [-1, width]);
  writer.node("Reshape", [`${to}.taken`, joined], to);
}
