/**
 * How attention is computed: with caches for serving, without for training, and its pullback. A room
 * of `lowering.ts`, whose total table takes these rules in. It knows no session.
 */
import type { Value } from "./graph.ts";
import {
  emitPositions,
  emitSharedMask,
  firstPrompts,
  headsOf,
  ownShare,
  probabilities,
  rotate,
  seenHeads,
  tokensOf,
} from "./attention_parts.ts";
import { gridShape, type LoweringContext, type Rule } from "./lowering_context.ts";
import { MICROSOFT, type NodeOptions } from "./onnx.ts";
import type { AttentionForm } from "./ops.ts";

const FUSED = { domain: MICROSOFT };

type AttentionOp =
  | "attention"
  | "attentionMask"
  | "causalAttention"
  | "causalAttentionGrad"
  | "positions";

/** The rule of each form of attention. */
export const ATTENTION_RULES: { readonly [K in AttentionOp]: Rule<K> } = {
  attention(context, args, out) {
    const given = [args.keys, args.values, args.lengths, args.total];
    const written = [`${args.keys.name}.out`, `${args.values.name}.out`];
    groupQueryAttention(context, args, given.map((value) => context.name(value)), written, out);
  },

  attentionMask(context, args, out) {
    emitSharedMask(context, args, out);
  },

  positions(context, { offsets, grid }, out) {
    emitPositions(context, offsets, grid, out);
  },

  causalAttention(context, args, out) {
    if (args.context === undefined) return promptAttention(context, args, out);
    const { writer } = context;
    const { heads, kvHeads, headDim, grid } = args;
    const seen = seenHeads(context, args, context.name(args.qkv), out);
    probabilities(context, args, seen, out);
    writer.node("MatMul", [`${out}.p`, seen.v], `${out}.heads`);
    const turned = [kvHeads, heads / kvHeads, headDim] as const;
    const tokens = tokensOf(context, grid, `${out}.heads`, turned, `${out}.t`);
    const joined = context.int64(`shape.joined.${heads * headDim}`, [-1, heads * headDim]);
    writer.node("Reshape", [tokens, joined], out);
  },

  causalAttentionGrad(context, args, out) {
    const { writer } = context;
    const { heads, kvHeads, headDim, grid, scale } = args;
    const seen = seenHeads(context, args, context.name(args.qkv), out);
    const { q, k, v } = seen;
    const dy = headsOf(context, grid, context.name(args.dy), args, `${out}.dy`);
    probabilities(context, args, seen, out);
    // Σ p · dp of each query is dy · out (FlashAttention-2, arXiv 2307.08691).
    writer.node("Mul", [context.name(args.dy), context.name(args.out)], `${out}.dots`);
    const dots = headsOf(context, grid, `${out}.dots`, args, `${out}.dots.h`);
    writer.node("ReduceSum", [dots, context.int64("int64.-1", [-1])], `${out}.dot`);
    const product = (inputs: readonly string[], to: string, attributes: Attributes) =>
      writer.node("FusedMatMul", inputs, to, { ...FUSED, attributes });
    const alpha = { alpha: { float: scale } };
    product([dy, v], `${out}.dp`, { transB: 1 });
    writer.node("Sub", [`${out}.dp`, `${out}.dot`], `${out}.centred`);
    writer.node("Mul", [`${out}.p`, `${out}.centred`], `${out}.ds`);
    product([`${out}.ds`, k], `${out}.dq`, alpha);
    product([`${out}.ds`, q], `${out}.dk`, { transA: 1, ...alpha });
    product([`${out}.p`, dy], `${out}.dv`, { transA: 1 });
    const ofKeys = (from: string) => {
      const own = ownShare(context, args, from);
      return tokensOf(context, grid, own, [kvHeads, 1, headDim], `${from}.t`);
    };
    const turned = [kvHeads, heads / kvHeads, headDim] as const;
    const dq = tokensOf(context, grid, `${out}.dq`, turned, `${out}.dq.t`);
    const axis = { attributes: { axis: 2 } };
    writer.node("Concat", [dq, ofKeys(`${out}.dk`)], `${out}.dqk`, axis);
    rotate(context, args, `${out}.dqk`, "back", `${out}.dqk.r`);
    writer.node("Concat", [`${out}.dqk.r`, ofKeys(`${out}.dv`)], `${out}.3`, axis);
    const width = (heads + 2 * kvHeads) * headDim;
    writer.node("Reshape", [`${out}.3`, context.int64(`shape.joined.${width}`, [-1, width])], out);
  },
};

type Attributes = NonNullable<NodeOptions["attributes"]>;

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
  { qkv, heads, kvHeads, headDim, window, grid, scale, cos, sin }: Packed,
  given: readonly string[],
  written: readonly string[],
  out: string,
): void {
  const { writer } = context;
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
      scale: { float: scale },
      ...(window === undefined ? {} : { local_window_size: window }),
    },
  });
  writer.node("Reshape", [`${out}.3`, joined], out);
}
