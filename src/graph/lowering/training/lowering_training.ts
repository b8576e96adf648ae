/**
 * How the operations of training are computed: the loss and the pullbacks.
 *
 * A pullback that needs what the forward pass had inside a kernel (probabilities, norms) computes
 * it again: that costs less than keeping it.
 */
import type { OpName, Value } from "../../ops.ts";
import { GATE_RULES } from "../gates.ts";
import { emitHeadGrad, emitLinearGrad } from "./gradient_kernels.ts";
import { gridShape, type LoweringContext, type Rule } from "../lowering_context.ts";
import { blockDiagonal } from "../adapters/lotr.ts";
import { emitKl, emitKlGrad, emitKlHeadGrad } from "./distillation.ts";
import type { ENCODER_RULES } from "../encoder/lowering_encoder.ts";
import { onnxType } from "../onnx.ts";
import { emitProduct } from "../products.ts";
import { transpose } from "../../quantise.ts";

type TrainingOp = Extract<
  OpName,
  | "softmax"
  | "nll"
  | "kl"
  | "hits"
  | "spread"
  | "scatterRows"
  | "project"
  | "outer"
  | "gated"
  | "coreProduct"
  | Exclude<Extract<OpName, `${string}Grad`>, "causalAttentionGrad" | keyof typeof ENCODER_RULES>
>;

/** The rule of each operation that only training has. */
export const TRAINING_RULES: { readonly [K in TrainingOp]: Rule<K> } = {
  softmax(context, { x }, out) {
    softmax(context, context.name(x), out);
  },

  /**
   * logsumexp = max - log(largest probability): over a whole vocabulary ReduceLogSumExp takes twenty
   * times as long as Softmax and loses the small terms of its sum.
   */
  nll(context, { logits, targets, p }, out) {
    const { writer } = context;
    const of = p === undefined
      ? softmax(context, context.name(logits), `${out}.p`)
      : context.name(p);
    rowMax(context, of, `${out}.p.max`);
    writer.node("Log", [`${out}.p.max`], `${out}.p.log`);
    const { largest, chosen } = targetLogits(context, logits, targets);
    writer.node("Sub", [largest, chosen], `${out}.gap`);
    writer.node("Sub", [`${out}.gap`, `${out}.p.log`], `${out}.column`);
    writer.node("Squeeze", [`${out}.column`, context.int64("int64.1", [1])], out);
  },

  hits(context, { logits, targets }, out) {
    const { writer } = context;
    const { largest, chosen } = targetLogits(context, logits, targets);
    writer.node("Equal", [largest, chosen], `${out}.same`);
    writer.node("Squeeze", [`${out}.same`, context.int64("int64.1", [1])], `${out}.flat`);
    writer.node("Cast", [`${out}.flat`], out, { attributes: { to: onnxType("float32") } });
  },

  nllGrad(context, { logits, targets, dy }, out) {
    const { writer } = context;
    const axis = { attributes: { axis: 1 } };
    const one = writer.constant("float.1", "float32", [], new Float32Array([1]));
    const index = column(context, targets);
    softmax(context, context.name(logits), `${out}.p`);
    writer.node("GatherElements", [`${out}.p`, index], `${out}.chosen`, axis);
    writer.node("Sub", [`${out}.chosen`, one], `${out}.less`);
    writer.node("ScatterElements", [`${out}.p`, index, `${out}.less`], `${out}.d`, axis);
    writer.node("Unsqueeze", [context.name(dy), context.int64("int64.1", [1])], `${out}.dy`);
    writer.node("Mul", [`${out}.d`, `${out}.dy`], out);
  },

  headGrad(context, args, out) {
    emitHeadGrad(context, args, out);
  },

  kl: emitKl,
  klGrad: emitKlGrad,
  klHeadGrad: emitKlHeadGrad,

  linearGrad(context, args, out) {
    emitLinearGrad(context, args, out);
  },

  rmsNormGrad(context, { x, gamma, dy, eps, groups }, out) {
    const { writer } = context;
    const width = Number(gamma.shape[0]);
    const grouped = (name: string, to: string) => {
      if (groups === 1) return name;
      const shape = context.int64(`shape.heads.${groups}.${width}`, [-1, groups, width]);
      return writer.node("Reshape", [name, shape], to);
    };
    const from = grouped(context.name(x), `${out}.x`);
    const last = context.int64("int64.-1", [-1]);
    const scalar = (name: string, value: number) =>
      writer.constant(name, "float32", [], new Float32Array([value]));
    writer.node(
      "Mul",
      [grouped(context.name(dy), `${out}.dy`), context.parameter(gamma)],
      `${out}.g`,
    );
    // ReduceSumSquare would use one thread
    writer.node("Mul", [from, from], `${out}.xx`);
    writer.node("ReduceSum", [`${out}.xx`, last], `${out}.squares`);
    writer.node("Mul", [`${out}.squares`, scalar(`float.1/${width}`, 1 / width)], `${out}.mean`);
    writer.node("Add", [`${out}.mean`, scalar(`float.${eps}`, eps)], `${out}.variance`);
    writer.node("Sqrt", [`${out}.variance`], `${out}.deviation`);
    writer.node("Reciprocal", [`${out}.deviation`], `${out}.inverse`);
    writer.node("Mul", [`${out}.g`, from], `${out}.gx`);
    writer.node("ReduceSum", [`${out}.gx`, last], `${out}.dot`);
    writer.node("Mul", [`${out}.dot`, scalar(`float.1/${width}`, 1 / width)], `${out}.dot.mean`);
    writer.node("Div", [`${out}.dot.mean`, `${out}.variance`], `${out}.share`);
    writer.node("Mul", [from, `${out}.share`], `${out}.along`);
    writer.node("Sub", [`${out}.g`, `${out}.along`], `${out}.across`);
    const end = groups === 1 ? out : `${out}.split`;
    writer.node("Mul", [`${out}.across`, `${out}.inverse`], end);
    if (groups === 1) return;
    const joined = context.int64(`shape.joined.${groups * width}`, [-1, groups * width]);
    writer.node("Reshape", [end, joined], out);
  },

  ...GATE_RULES,

  spread(context, { x, start, width }, out) {
    const after = width - start - Number(x.shape[1]);
    const pads = context.int64(`pads.${start}.${after}`, [0, start, 0, after]);
    context.writer.node("Pad", [context.name(x), pads], out);
  },

  scatterRows(context, { x, index, like }, out) {
    const { writer } = context;
    writer.node("Shape", [context.name(like)], `${out}.shape`);
    writer.node("ConstantOfShape", [`${out}.shape`], `${out}.zeros`);
    const inputs = [`${out}.zeros`, column(context, index), context.name(x)];
    writer.node("ScatterND", inputs, out, { attributes: { reduction: "add" } });
  },

  project(context, { x, w }, out) {
    context.writer.node("MatMul", [context.name(x), context.parameter(w)], out);
  },

  projectGrad(context, { dy, w }, out) {
    const { writer } = context;
    if (w.kind !== "parameter") {
      const form = { rank: 2, transposed: "second" } as const;
      return emitProduct(context, [context.name(dy), context.name(w)], form, out);
    }
    const [k, n] = w.shape.map(Number);
    const transposed = () => transpose(context.parameters.read(w.name), k, n);
    const weight = context.weight(`${w.name}:t`, "float32", [n, k], transposed);
    writer.node("MatMul", [context.name(dy), weight], out);
  },

  outer(context, { a, b }, out) {
    const form = { rank: 2, transposed: "first" } as const;
    emitProduct(context, [context.name(a), context.name(b)], form, out);
  },

  coreProduct(context, { u, cores, grid }, out) {
    const rows = reshaped(context, u, grid, `${out}.u3`);
    context.writer.node("MatMul", [rows, context.name(cores)], `${out}.3`);
    flattened(context, `${out}.3`, Number(cores.shape[2]), out);
  },

  coreProductGrad(context, { dv, cores, grid }, out) {
    const rows = reshaped(context, dv, grid, `${out}.dv3`);
    const form = { rank: 3, transposed: "second" } as const;
    emitProduct(context, [rows, context.name(cores)], form, `${out}.3`);
    flattened(context, `${out}.3`, Number(cores.shape[1]), out);
  },

  coreGrad(context, { u, dv, grid }, out) {
    const [rows, by] = [
      reshaped(context, u, grid, `${out}.u3`),
      reshaped(context, dv, grid, `${out}.dv3`),
    ];
    emitProduct(context, [rows, by], { rank: 3, transposed: "first" }, out);
  },

  lotrGrad(context, { dy, b, offsets }, out) {
    const block = blockDiagonal(context, b, offsets, Number(dy.shape[1]));
    const form = { rank: 2, transposed: "second" } as const;
    emitProduct(context, [context.name(dy), block], form, out);
  },
};

/** The largest logit of each row, and its target's, [R, 1] both: shared by loss and hits. */
function targetLogits(
  context: LoweringContext,
  logits: Value,
  targets: Value,
): { readonly largest: string; readonly chosen: string } {
  const name = context.name(logits);
  const largest = context.once(`${name}.largest`, (to) => rowMax(context, name, to));
  const chosen = context.once(`${name}.${context.name(targets)}.chosen`, (to) => {
    const inputs = [name, column(context, targets)];
    context.writer.node("GatherElements", inputs, to, { attributes: { axis: 1 } });
  });
  return { largest, chosen };
}

function softmax(context: LoweringContext, from: string, to: string): string {
  return context.writer.node("Softmax", [from], to, { attributes: { axis: 1 } });
}

/** The largest number of each row, [R, 1]. */
function rowMax(context: LoweringContext, from: string, to: string): void {
  const axis = context.int64("int64.1", [1]);
  context.writer.node("ReduceMax", [from, axis], to, { attributes: { keepdims: 1 } });
}

/** int32 [R] as int64 [R, 1]. */
function column(context: LoweringContext, index: Value): string {
  return context.once(`${context.name(index)}.column`, (to) => {
    const attributes = { to: onnxType("int64") };
    context.writer.node("Cast", [context.name(index)], `${to}.flat`, { attributes });
    context.writer.node("Unsqueeze", [`${to}.flat`, context.int64("int64.1", [1])], to);
  });
}

/** tokens [T, d] as [batch, time, d]. */
function reshaped(context: LoweringContext, x: Value, grid: Value, to: string): string {
  const shape = gridShape(context, grid, Number(x.shape[1]));
  return context.writer.node("Reshape", [context.name(x), shape], to);
}

/** Gives the tokens of [batch, time, width] back as [T, width]. */
function flattened(context: LoweringContext, from: string, width: number, out: string): void {
  const joined = context.int64(`shape.joined.${width}`, [-1, width]);
  context.writer.node("Reshape", [from, joined], out);
}
