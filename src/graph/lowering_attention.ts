/**
 * How attention is computed: with caches for serving, without for training, and its pullback. A room
 * of `lowering.ts`, whose total table takes these rules in. It knows no session.
 */
import type { Value } from "./graph.ts";
import { gridShape, type LoweringContext, type Rule } from "./lowering_context.ts";
import { MICROSOFT, onnxType } from "./onnx.ts";
import type { AttentionForm } from "./ops.ts";

const FUSED = { domain: MICROSOFT };

type AttentionOp = "attention" | "causalAttention" | "causalAttentionGrad";

/** The rule of each form of attention. */
export const ATTENTION_RULES: { readonly [K in AttentionOp]: Rule<K> } = {
  attention(context, args, out) {
    const { writer } = context;
    const { heads, kvHeads, headDim, window } = args;
    const shape = gridShape(context, args.grid, (heads + 2 * kvHeads) * headDim);
    const joined = context.int64(`shape.joined.${heads * headDim}`, [-1, heads * headDim]);
    writer.node("Reshape", [context.name(args.qkv), shape], `${out}.qkv3`);
    const inputs = [
      ...[`${out}.qkv3`, "", "", context.name(args.keys), context.name(args.values)],
      ...[context.name(args.lengths), context.name(args.total)],
      ...[context.parameter(args.cos), context.parameter(args.sin)],
    ];
    const outputs = [`${out}.3`, `${args.keys.name}.out`, `${args.values.name}.out`];
    writer.nodes("GroupQueryAttention", inputs, outputs, {
      domain: MICROSOFT,
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: 1,
        scale: { float: args.scale },
        ...(window === undefined ? {} : { local_window_size: window }),
      },
    });
    writer.node("Reshape", [`${out}.3`, joined], out);
  },
  causalAttention(context, args, out) {
    const { writer } = context;
    const { heads, kvHeads, headDim, window, grid } = args;
    const shape = gridShape(context, grid, (heads + 2 * kvHeads) * headDim);
    const joined = context.int64(`shape.joined.${heads * headDim}`, [-1, heads * headDim]);
    const { lengths, total } = firstPrompts(context, grid);
    writer.node("Reshape", [context.name(args.qkv), shape], `${out}.qkv3`);
    const tables = [context.parameter(args.cos), context.parameter(args.sin)];
    const inputs = [`${out}.qkv3`, "", "", "", "", lengths, total, ...tables];
    writer.nodes("GroupQueryAttention", inputs, [`${out}.3`, `${out}.keys`, `${out}.values`], {
      domain: MICROSOFT,
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: 1,
        scale: { float: args.scale },
        ...(window === undefined ? {} : { local_window_size: window }),
      },
    });
    writer.node("Reshape", [`${out}.3`, joined], out);
  },

  causalAttentionGrad(context, args, out) {
    const { writer } = context;
    const { heads, kvHeads, headDim, grid } = args;
    const { q, k, v } = rotatedHeads(context, args, context.name(args.qkv), out);
    const dy = headsOf(context, grid, context.name(args.dy), args, `${out}.dy`);
    writer.node("Mul", [context.name(args.dy), context.name(args.out)], `${out}.dots`);
    const split = headsOf(context, grid, `${out}.dots`, args, `${out}.dots.h`);
    writer.node("ReduceSum", [split, context.int64("int64.-1", [-1])], `${out}.dot`);
    const scale = { attributes: { transB: 1, alpha: { float: args.scale } }, ...FUSED };
    writer.node("FusedMatMul", [q, k], `${out}.scores`, scale);
    writer.node("Add", [`${out}.scores`, causalMask(context, args)], `${out}.masked`);
    writer.node("Softmax", [`${out}.masked`], `${out}.p`, { attributes: { axis: -1 } });
    writer.node("FusedMatMul", [dy, v], `${out}.dp`, { attributes: { transB: 1 }, ...FUSED });
    writer.node("Sub", [`${out}.dp`, `${out}.dot`], `${out}.centred`);
    writer.node("Mul", [`${out}.p`, `${out}.centred`], `${out}.ds`);
    const alpha = { alpha: { float: args.scale } };
    writer.node("FusedMatMul", [`${out}.ds`, k], `${out}.dq`, { attributes: alpha, ...FUSED });
    const transposed = { attributes: { transA: 1, ...alpha }, ...FUSED };
    writer.node("FusedMatMul", [`${out}.ds`, q], `${out}.dk`, transposed);
    const plain = { attributes: { transA: 1 }, ...FUSED };
    writer.node("FusedMatMul", [`${out}.p`, dy], `${out}.dv`, plain);
    const parts = [
      tokensOf(context, grid, `${out}.dq`, [kvHeads, heads / kvHeads, headDim], `${out}.dq.t`),
      tokensOf(context, grid, `${out}.dk`, [kvHeads, 1, headDim], `${out}.dk.t`),
    ];
    writer.node("Concat", parts, `${out}.dqk`, { attributes: { axis: 2 } });
    rotate(context, args, `${out}.dqk`, "back", `${out}.dqk.r`);
    const values = tokensOf(context, grid, `${out}.dv`, [kvHeads, 1, headDim], `${out}.dv.t`);
    writer.node("Concat", [`${out}.dqk.r`, values], `${out}.3`, { attributes: { axis: 2 } });
    const width = (heads + 2 * kvHeads) * headDim;
    writer.node("Reshape", [`${out}.3`, context.int64(`shape.joined.${width}`, [-1, width])], out);
  },
};

/** Batch and time as scalars in a list, int64 [1] each. */
function sizes(context: LoweringContext, grid: Value): { batch: string; time: string } {
  const pick = (name: string, at: number) =>
    context.once(`grid.${name}`, (to) => {
      const index = context.int64(`int64.${at}`, [at]);
      context.writer.node("Gather", [context.name(grid), index], to);
    });
  return { batch: pick("batch", 0), time: pick("time", 1) };
}

/** GroupQueryAttention's counts where every row is a first prompt of `time` tokens. */
function firstPrompts(context: LoweringContext, grid: Value): { lengths: string; total: string } {
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

/** 0 where a token (row) sees another one (column), -inf where not: [G·time, time]. */
function causalMask(context: LoweringContext, { grid, heads, kvHeads, window }: AttentionForm) {
  const { writer } = context;
  const groups = heads / kvHeads;
  return context.once(`mask.${groups}.${window ?? "all"}`, (to) => {
    const { time } = sizes(context, grid);
    const scalar = context.int64("int64.scalar", [0], []);
    const step = context.int64("int64.scalar.1", [1], []);
    writer.node("Squeeze", [time], `${to}.time`);
    writer.node("Range", [scalar, `${to}.time`, step], `${to}.columns`);
    writer.node("Unsqueeze", [`${to}.columns`, context.int64("int64.1", [1])], `${to}.rows`);
    writer.node("Greater", [`${to}.columns`, `${to}.rows`], `${to}.later`);
    const hidden = window === undefined ? `${to}.later` : `${to}.hidden`;
    if (window !== undefined) {
      const size = context.int64(`int64.scalar.${window}`, [window], []);
      writer.node("Add", [`${to}.columns`, size], `${to}.columns.end`);
      writer.node("LessOrEqual", [`${to}.columns.end`, `${to}.rows`], `${to}.gone`);
      writer.node("Or", [`${to}.later`, `${to}.gone`], hidden);
    }
    const zero = writer.constant("float.0", "float32", [], new Float32Array([0]));
    const never = writer.constant("float.-inf", "float32", [], new Float32Array([-Infinity]));
    writer.node("Where", [hidden, never, zero], `${to}.one`);
    writer.node("Tile", [`${to}.one`, context.int64(`tile.${groups}`, [groups, 1])], to);
  });
}

/** q [N, KV, G·time, D], k and v [N, KV, time, D] of packed tokens, q and k rotated. */
function rotatedHeads(
  context: LoweringContext,
  form: AttentionForm,
  qkv: string,
  out: string,
): { readonly q: string; readonly k: string; readonly v: string } {
  const { writer } = context;
  const { heads, kvHeads, headDim, grid } = form;
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  const shape = gridShape(context, grid, queries + 2 * keys);
  writer.node("Reshape", [qkv, shape], `${out}.in`);
  const split = (from: string, to: readonly string[], at: readonly number[]) =>
    writer.nodes("Split", [from, context.int64(`split.${at.join(".")}`, at)], to, {
      attributes: { axis: 2 },
    });
  split(`${out}.in`, [`${out}.qk`, `${out}.v`], [queries + keys, keys]);
  rotate(context, form, `${out}.qk`, "forth", `${out}.qk.r`);
  split(`${out}.qk.r`, [`${out}.q`, `${out}.k`], [queries, keys]);
  const single = { ...form, heads: kvHeads };
  return {
    q: headsOf(context, grid, `${out}.q`, form, `${out}.q.h`),
    k: headsOf(context, grid, `${out}.k`, single, `${out}.k.h`),
    v: headsOf(context, grid, `${out}.v`, single, `${out}.v.h`),
  };
}

/** Rotates q and k of [batch, time, heads·D] by position, or back. */
function rotate(
  context: LoweringContext,
  { cos, sin }: AttentionForm,
  from: string,
  direction: "forth" | "back",
  to: string,
): void {
  const zero = context.int64("int64.0", [0]);
  const turn = direction === "forth" ? context.parameter(sin) : context.weight(
    `${sin.name}:negated`,
    "float32",
    sin.shape.map(Number),
    () => context.parameters.read(sin.name).map((value) => -value),
  );
  const inputs = [from, zero, context.parameter(cos), turn];
  context.writer.node("RotaryEmbedding", inputs, to, FUSED);
}

/** [.., H·D] of tokens as [N, KV, G·time, D]: heads that share a key-value head one after another. */
function headsOf(
  context: LoweringContext,
  grid: Value,
  from: string,
  { heads, kvHeads, headDim }: Pick<AttentionForm, "heads" | "kvHeads" | "headDim">,
  to: string,
): string {
  const { writer } = context;
  const groups = heads / kvHeads;
  const split = gridShape(context, grid, kvHeads, groups, headDim);
  writer.node("Reshape", [from, split], `${to}.split`);
  const attributes = { perm: [0, 2, 3, 1, 4] };
  writer.node("Transpose", [`${to}.split`], `${to}.turned`, { attributes });
  const joined = context.int64(`shape.kv.${kvHeads}.${headDim}`, [0, kvHeads, -1, headDim]);
  return writer.node("Reshape", [`${to}.turned`, joined], to);
}

/** The way back: [N, KV, G·time, D] as [batch, time, H·D]. */
function tokensOf(
  context: LoweringContext,
  grid: Value,
  from: string,
  [kvHeads, groups, headDim]: readonly [number, number, number],
  to: string,
): string {
  const { writer } = context;
  const { batch, time } = sizes(context, grid);
  const key = `shape.turned.${kvHeads}.${groups}.${headDim}`;
  const shape = context.once(key, (name) => {
    const middle = context.int64(`int64.${kvHeads}.${groups}`, [kvHeads, groups]);
    const inputs = [batch, middle, time, context.int64(`int64.${headDim}`, [headDim])];
    writer.node("Concat", inputs, name, { attributes: { axis: 0 } });
  });
  writer.node("Reshape", [from, shape], `${to}.split`);
  const attributes = { perm: [0, 3, 1, 2, 4] };
  writer.node("Transpose", [`${to}.split`], `${to}.turned`, { attributes });
  return writer.node("Reshape", [
    `${to}.turned`,
    gridShape(context, grid, kvHeads * groups * headDim),
  ], to);
}
