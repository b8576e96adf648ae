/** How attention is computed: with caches for serving, without for training, and its pullback. */
import type { AttentionForm, Value } from "../ops.ts";
import { emitPositions, emitSharedMask } from "./attention_grid.ts";
import {
  byHead,
  dotsOf,
  firstPrompts,
  headsOf,
  ownShare,
  probabilities,
  rotate,
  seenHeads,
  tokensOf,
} from "./attention_parts.ts";
import { emitCappedGrad } from "./gates.ts";
import { emitHeadCells, emitHeadPlaces } from "./head_layout.ts";
import { gridShape, type LoweringContext, type Rule } from "./lowering_context.ts";
import { MICROSOFT } from "./onnx.ts";
import { emitProduct, type ProductForm } from "./products.ts";

type AttentionOp =
  | "attention"
  | "attentionMask"
  | "causalAttention"
  | "causalAttentionGrad"
  | "headCells"
  | "headPlaces"
  | "positions";

/** The rule of each form of attention. */
export const ATTENTION_RULES: { readonly [K in AttentionOp]: Rule<K> } = {
  attention(context, args, out) {
    const given = [args.keys, args.values, args.lengths, args.total];
    const written = [`${args.keys.name}.out`, `${args.values.name}.out`];
    const names = given.map((value) => context.name(value));
    const window = context.plan.device === "webgpu"
      ? deviceWindow(args.window, Number(args.cos.shape[0]))
      : args.window;
    groupQueryAttention(context, { ...args, window }, names, written, out);
  },

  attentionMask(context, args, out) {
    emitSharedMask(context, args, out);
  },

  positions(context, { offsets, grid }, out) {
    emitPositions(context, offsets, grid, out);
  },

  headCells(context, args, out) {
    emitHeadCells(context, args, out);
  },

  headPlaces(context, args, out) {
    emitHeadPlaces(context, args, out);
  },

  causalAttention(context, args, out) {
    if (args.context === undefined && args.cells === undefined) {
      return promptAttention(context, args, out);
    }
    const seen = seenHeads(context, args, context.name(args.qkv), out);
    probabilities(context, args, seen, out);
    context.writer.node("MatMul", [`${out}.p`, seen.v], `${out}.heads`);
    tokensOf(context, args, `${out}.heads`, "outPlaces", out);
  },

  causalAttentionGrad(context, args, out) {
    const { writer } = context;
    const { scale } = args;
    const seen = seenHeads(context, args, context.name(args.qkv), out);
    const { q, k, v } = seen;
    probabilities(context, args, seen, out);
    const dy = headsOf(context, args, context.name(args.dy), `${out}.dy`);
    const product = (a: string, b: string, form: Omit<ProductForm, "rank">, to: string) =>
      emitProduct(context, [a, b], { rank: 4, ...form }, to);
    product(dy, v, { transposed: "second" }, `${out}.dp`);
    writer.node("Sub", [`${out}.dp`, dotsOf(context, args, `${out}.dot`)], `${out}.centred`);
    const bent = args.cap === undefined ? `${out}.ds` : `${out}.bent`;
    writer.node("Mul", [`${out}.p`, `${out}.centred`], bent);
    if (args.cap !== undefined) {
      emitCappedGrad(context, [`${out}.scores`, bent], args.cap, `${out}.ds`);
    }
    product(`${out}.ds`, k, { transposed: "none", scale }, `${out}.dq`);
    product(`${out}.ds`, q, { transposed: "first", scale }, `${out}.dk`);
    product(`${out}.p`, dy, { transposed: "first" }, `${out}.dv`);
    const dq = byHead(context, args, `${out}.dq`, args.heads);
    const parts = [
      rotate(context, args, dq, "back", `${out}.dq.r`),
      rotate(context, args, ownShare(context, args, `${out}.dk`), "back", `${out}.dk.r`),
      ownShare(context, args, `${out}.dv`),
    ];
    writer.node("Concat", parts, `${out}.cells`, { attributes: { axis: 1 } });
    tokensOf(context, args, `${out}.cells`, "packedPlaces", out);
  },
};

/**
 * A graph's window on WebGPU, where rows have fewer than `positions` tokens. Its provider has two
 * kernels for prompts and chooses by whether a window ends before the last key: so that a step can
 * choose (`executor/device/prompts.ts`), rows without a window have one as long as they may be.
 */
export function deviceWindow(window: number | undefined, positions: number): number {
  return Math.min(window ?? Infinity, positions - 1);
}

/** Rows that share nothing: the kernel of prompts, without a cache. */
function promptAttention(context: LoweringContext, args: Packed, out: string): void {
  const { lengths, total } = firstPrompts(context, args.grid);
  const given = ["", "", lengths, total];
  groupQueryAttention(context, args, given, [`${out}.keys`, `${out}.values`], out);
}

type Packed = AttentionForm & { readonly qkv: Value };

/**
 * Emits the kernel over packed tokens.
 * @param given keys, values, lengths and total
 * @param written keys and values after the step
 */
function groupQueryAttention(
  context: LoweringContext,
  form: Packed,
  given: readonly string[],
  written: readonly string[],
  out: string,
): void {
  const { qkv, heads, kvHeads, headDim, window, grid, scale, cos, sin, cap } = form;
  const { writer, floats, plan } = context;
  if (plan.device === "cuda" && floats === "float32") {
    throw new RangeError(
      "Cannot compute on cuda in float32: its attention takes float16, bfloat16",
    );
  }
  if (plan.device === "webgpu" && cap !== undefined) {
    throw new RangeError(
      "Cannot compute on webgpu: the model caps attention's scores (attn_logit_softcapping), " +
        "which its kernel leaves out; pass --device cpu",
    );
  }
  const shape = gridShape(context, grid, (heads + 2 * kvHeads) * headDim);
  const joined = context.int64(`shape.joined.${heads * headDim}`, [-1, heads * headDim]);
  writer.node("Reshape", [context.name(qkv), shape], `${out}.qkv3`);
  const tables = [context.parameter(cos), context.parameter(sin)];
  const inputs = [`${out}.qkv3`, "", "", ...given, ...tables];
  writer.nodes("GroupQueryAttention", inputs, [`${out}.3`, ...written], {
    domain: MICROSOFT,
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      do_rotary: 1,
      ...(form.interleaved ? { rotary_interleaved: 1 } : {}),
      scale: { float: scale },
      ...(cap === undefined ? {} : { softcap: { float: cap } }),
      ...(window === undefined ? {} : { local_window_size: window }),
    },
  });
  writer.node("Reshape", [`${out}.3`, joined], out);
}
