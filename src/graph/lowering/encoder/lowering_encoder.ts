/**
 * How encoders' operations are computed on the CPU: attention by ONNX Runtime's kernel over packed
 * texts put on a grid, norms and GELU by its kernels, their pullbacks of small operations.
 */
import type { Node } from "../../graph.ts";
import type { GeluForm, OpName } from "../../ops.ts";
import type { LoweringContext, Rule } from "../lowering_context.ts";
import { sizes } from "../attention_grid.ts";
import { MICROSOFT } from "../onnx.ts";
import { emitProduct } from "../products.ts";
import { emitAttentionGrad } from "./attention_grad.ts";
import { onGrid, toTokens } from "./text_grid.ts";

type EncoderOp = Extract<
  OpName,
  | "layerNorm"
  | "layerNormGrad"
  | "gelu"
  | "geluGrad"
  | "pool"
  | "poolGrad"
  | "relativeBias"
  | "bidirectionalAttention"
  | "bidirectionalAttentionGrad"
>;

export const ENCODER_RULES: { readonly [K in EncoderOp]: Rule<K> } = {
  layerNorm(context, { x, gamma, beta, eps }, out) {
    const inputs = [context.name(x), context.parameter(gamma), context.parameter(beta)];
    const attributes = { axis: -1, epsilon: { float: eps } };
    context.writer.node("LayerNormalization", inputs, out, { attributes });
  },

  gelu(context, { x, form }, out) {
    const attributes = form === "exact" ? {} : { approximate: "tanh" };
    context.writer.node("Gelu", [context.name(x)], out, { attributes });
  },

  pool(context, { x, weights }, out) {
    context.writer.node("MatMul", [context.name(weights), context.name(x)], out);
  },

  poolGrad(context, { weights, dy }, out) {
    const operands = [context.name(weights), context.name(dy)] as const;
    emitProduct(context, operands, { rank: 2, transposed: "first" }, out);
  },

  relativeBias(context, { table, grid }, out) {
    const { writer } = context;
    const { time } = sizes(context, grid);
    const [zero, one] = [0, 1].map((n) => context.int64(`int64.${n}.scalar`, [n], []));
    const middle = (Number(table.shape[1]) - 1) / 2;
    writer.node("Squeeze", [time], `${out}.time`);
    writer.node("Range", [zero, `${out}.time`, one], `${out}.keys`);
    writer.node("Unsqueeze", [`${out}.keys`, context.int64("int64.1", [1])], `${out}.queries`);
    writer.node("Sub", [`${out}.keys`, `${out}.queries`], `${out}.distances`);
    const centre = context.int64(`int64.${middle}`, [middle]);
    writer.node("Add", [`${out}.distances`, centre], `${out}.index`);
    const attributes = { axis: 1 };
    writer.node("Gather", [context.parameter(table), `${out}.index`], `${out}.heads`, {
      attributes,
    });
    writer.node("Unsqueeze", [`${out}.heads`, context.int64("int64.0", [0])], out);
  },

  bidirectionalAttention(context, args, out) {
    const { writer } = context;
    const { heads, headDim, scale, bias, lengths } = args;
    const width = heads * headDim;
    const rows = onGrid(context, args, args.qkv, 3 * width, `${out}.qkv`);
    const parts = ["q", "k", "v"].map((name) => `${out}.${name}`);
    writer.nodes("Split", [rows], parts, { attributes: { axis: 2, "num_outputs": 3 } });
    const inputs = [...parts, "", context.name(lengths), ...(bias ? [context.name(bias)] : [])];
    const attributes = {
      "num_heads": heads,
      scale: { float: scale },
      "mask_filter_value": { float: -1e30 },
    };
    writer.node("MultiHeadAttention", inputs, `${out}.rows`, { domain: MICROSOFT, attributes });
    toTokens(context, args, `${out}.rows`, width, out);
  },

  layerNormGrad(context, { x, gamma, dy, eps }, out) {
    const { writer } = context;
    const mean = (of: string, to: string) =>
      writer.node("ReduceMean", [of, context.int64("int64.1", [1])], to, {
        attributes: { keepdims: 1 },
      });
    const join = (op: string, a: string, b: string, to: string) => writer.node(op, [a, b], to);
    const epsilon = writer.constant(`float.${eps}`, "float32", [], new Float32Array([eps]));
    join("Sub", context.name(x), mean(context.name(x), `${out}.mean`), `${out}.moved`);
    join("Mul", `${out}.moved`, `${out}.moved`, `${out}.squares`);
    join("Add", mean(`${out}.squares`, `${out}.variance`), epsilon, `${out}.raised`);
    writer.node("Sqrt", [`${out}.raised`], `${out}.deviation`);
    join("Div", `${out}.moved`, `${out}.deviation`, `${out}.normed`);
    join("Mul", context.name(dy), context.parameter(gamma), `${out}.d`);
    join("Mul", `${out}.d`, `${out}.normed`, `${out}.along`);
    join("Mul", `${out}.normed`, mean(`${out}.along`, `${out}.along.mean`), `${out}.radial`);
    join("Sub", `${out}.d`, mean(`${out}.d`, `${out}.d.mean`), `${out}.centred`);
    join("Sub", `${out}.centred`, `${out}.radial`, `${out}.tangent`);
    join("Div", `${out}.tangent`, `${out}.deviation`, out);
  },

  geluGrad(context, { x, dy, form }, out) {
    const slope = SLOPES[form](new Formula(context, out), context.name(x));
    context.writer.node("Mul", [context.name(dy), slope], out);
  },

  bidirectionalAttentionGrad: emitAttentionGrad,
};

/** Emits elementwise formulas, each step under a name of its own. */
class Formula {
  readonly #context: LoweringContext;
  readonly #out: string;
  #steps = 0;

  constructor(context: LoweringContext, out: string) {
    this.#context = context;
    this.#out = out;
  }

  of(op: string, ...inputs: readonly (string | number)[]): string {
    const names = inputs.map((one) => typeof one === "string" ? one : this.#number(one));
    return this.#context.writer.node(op, names, `${this.#out}.step${this.#steps++}`);
  }

  #number(value: number): string {
    const data = new Float32Array([value]);
    return this.#context.writer.constant(`float.${value}`, "float32", [], data);
  }
}

/** Emits Φ(x) + x · Φ'(x). */
const SLOPES: { readonly [K in GeluForm]: (f: Formula, x: string) => string } = {
  exact(f, x) {
    const phi = f.of("Mul", f.of("Add", f.of("Erf", f.of("Mul", x, Math.SQRT1_2)), 1), 0.5);
    const bell = f.of("Exp", f.of("Mul", f.of("Mul", x, x), -0.5));
    return f.of("Add", phi, f.of("Mul", f.of("Mul", x, bell), 1 / Math.sqrt(2 * Math.PI)));
  },
  tanh(f, x) {
    const [root, cubic] = [Math.sqrt(2 / Math.PI), 0.044715];
    const square = f.of("Mul", x, x);
    const inner = f.of("Mul", x, f.of("Add", f.of("Mul", square, cubic), 1));
    const t = f.of("Tanh", f.of("Mul", inner, root));
    const phi = f.of("Mul", f.of("Add", t, 1), 0.5);
    const bell = f.of("Mul", f.of("Sub", 1, f.of("Mul", t, t)), root / 2);
    const stretch = f.of("Add", f.of("Mul", square, 3 * cubic), 1);
    return f.of("Add", phi, f.of("Mul", f.of("Mul", x, bell), stretch));
  },
};

/** An addition whose sum is normalised next is one kernel. True where it was emitted. */
export function fuseSkipLayerNorm(context: LoweringContext, node: Node, next: Node): boolean {
  if (node.op !== "add" || next.op !== "layerNorm" || next.args.x !== node.out) return false;
  if (context.uses.get(node.out.id) !== 1) return false;
  const { gamma, beta, eps } = next.args;
  const inputs = [
    ...[node.args.a, node.args.b].map((value) => context.name(value)),
    ...[gamma, beta].map((value) => context.parameter(value)),
  ];
  context.writer.node("SkipLayerNormalization", inputs, context.name(next.out), {
    domain: MICROSOFT,
    attributes: { epsilon: { float: eps } },
  });
  return true;
}
