/**
 * How the pullback of a linear by its input is computed, and that of the loss through the output
 * layer.
 */
import type { Ops, Value } from "../../ops.ts";
import {
  float32Weight,
  type IntegerMatrix,
  integerMatrix,
  integerProduct,
  integerZero,
  joinedRows,
  largestOfEnds,
  type Linear,
  type Quantised,
  quantised,
  rowBlocks,
  zeroPoints,
} from "../kernels.ts";
import type { LoweringContext } from "../lowering_context.ts";
import { onnxType } from "../onnx.ts";
import { quantiseByColumn } from "../../quantise.ts";

/** Emits the pullback of a linear by its input, `dy · concat(weights)`. */
export function emitLinearGrad(
  context: LoweringContext,
  { dy, weights }: Ops["linearGrad"],
  out: string,
): void {
  const name = weights.map((weight) => weight.name).join("|");
  const outputs = weights.reduce((sum, weight) => sum + Number(weight.shape[0]), 0);
  const inputs = Number(weights[0]?.shape[1]);
  const kernel = context.plan.gradient(weights[0]?.name ?? "");
  if (kernel === "float32") {
    const weight = float32Weight(context, { name, weights, inputs, outputs });
    context.writer.node("MatMul", [context.name(dy), weight], out);
    return;
  }
  const matrix = inputScaled(context, { name, weights, inputs, outputs });
  const high = quantised(context, context.name(dy), dy, largestOfEnds);
  if (kernel === "w8a8") return integerProduct(context, high, matrix, out);
  const rest = remainder(context, context.name(dy), dy, high);
  const low = quantised(context, rest, dy, largestOfEnds);
  integerProduct(context, high, matrix, `${out}.high`);
  integerProduct(context, low, matrix, `${out}.low`);
  context.writer.node("Add", [`${out}.high`, `${out}.low`], out);
}

/**
 * Emits the pullback of the loss by what the output layer reads: probabilities times the weights, less
 * the targets' own, so that nothing but the softmax and its rounding goes over the vocabulary.
 */
export function emitHeadGrad(
  context: LoweringContext,
  { p, weight, targets, dy }: Ops["headGrad"],
  out: string,
): void {
  const { writer } = context;
  emitHeadProduct(context, { p, weight }, `${out}.all`);
  emitHeadRows(context, { weight, index: targets }, `${out}.target`);
  writer.node("Sub", [`${out}.all`, `${out}.target`], `${out}.less`);
  writer.node("Unsqueeze", [context.name(dy), context.int64("int64.1", [1])], `${out}.dy`);
  writer.node("Mul", [`${out}.less`, `${out}.dy`], out);
}

/** Emits probabilities times the output layer's weights: p [R, V] → [R, d]. */
export function emitHeadProduct(
  context: LoweringContext,
  { p, weight }: { readonly p: Value; readonly weight: Value },
  out: string,
): void {
  const matrix = headMatrix(context, weight);
  if (typeof matrix !== "string") return probabilityProduct(context, p, matrix, out);
  context.writer.node("MatMul", [context.name(p), matrix], out);
}

/** Emits some of the output layer's weights, by token: index [R] → [R, d], [R, K] → [R, K, d]. */
export function emitHeadRows(
  context: LoweringContext,
  { weight, index }: { readonly weight: Value; readonly index: Value },
  out: string,
): void {
  const { writer } = context;
  const matrix = headMatrix(context, weight);
  if (typeof matrix === "string") {
    return void writer.node("Gather", [matrix, context.name(index)], out);
  }
  writer.node("Gather", [matrix.q, context.name(index)], `${out}.q`);
  writer.node("Mul", [asFloat(context, `${out}.q`), matrix.scales], out);
}

/** The output layer's weights as its pullback reads them: float32, or int8 by input channel. */
function headMatrix(context: LoweringContext, weight: Value): string | IntegerMatrix {
  const [outputs, inputs] = weight.shape.map(Number);
  const linear = { name: weight.name, weights: [weight], inputs, outputs };
  const isFloat = context.plan.gradient(weight.name) === "float32";
  return isFloat ? float32Weight(context, linear) : inputScaled(context, linear);
}

/** int8 weights [Σ d_out_i, d_in] with a scale per input channel. */
function inputScaled(
  context: LoweringContext,
  { name, weights, inputs, outputs }: Omit<Linear, "x">,
): IntegerMatrix {
  const make = () => quantiseByColumn(joinedRows(context, weights, inputs));
  return integerMatrix(context, `${name}:w8t`, [outputs, inputs], make);
}

/** W8A8's weights, some of their rows, as float32 without their scales. */
function asFloat(context: LoweringContext, q: string): string {
  const { writer } = context;
  const attributes = { to: onnxType("float32") };
  const whole = writer.node("Cast", [q], `${q}.f`, { attributes });
  if (integerZero(context) === undefined) return whole;
  const zero = writer.constant("float.128", "float32", [], new Float32Array([128]));
  return writer.node("Sub", [whole, zero], `${q}.centred`);
}

/**
 * Numbers from 0 to 1 times int8, in twice 8 bits: 255 steps up to each row's largest, then what they
 * left, which is half a step at most and so needs no search for its scale.
 */
function probabilityProduct(
  context: LoweringContext,
  p: Value,
  matrix: IntegerMatrix,
  out: string,
): void {
  const { writer } = context;
  const name = context.name(p);
  const scaled = (by: number, to: string) => {
    const step = writer.constant(`float.1/${by}`, "float32", [], new Float32Array([1 / by]));
    return writer.node("Mul", [`${out}.max`, step], to);
  };
  writer.node("ReduceMax", [name, context.int64("int64.1", [1])], `${out}.max`, {
    attributes: { keepdims: 1 },
  });
  const coarse = scaled(255, `${out}.coarse`);
  const fine = scaled(2 * 127 * 255, `${out}.fine`);
  writer.node("QuantizeLinear", [name, coarse], `${out}.high.q`, rowBlocks(p));
  // DequantizeLinear by rows uses one thread and takes five times as long
  const attributes = { to: onnxType("float32") };
  writer.node("Cast", [`${out}.high.q`], `${out}.high.f`, { attributes });
  writer.node("Mul", [`${out}.high.f`, coarse], `${out}.rounded`);
  writer.node("Sub", [name, `${out}.rounded`], `${out}.rest`);
  const rest = [`${out}.rest`, fine, zeroPoints(context, p)];
  writer.node("QuantizeLinear", rest, `${out}.low.q`, rowBlocks(p));
  integerProduct(context, { q: `${out}.high.q`, scale: coarse, from: "0" }, matrix, `${out}.high`);
  integerProduct(context, { q: `${out}.low.q`, scale: fine }, matrix, `${out}.low`);
  writer.node("Add", [`${out}.high`, `${out}.low`], out);
}

/** What rounding to 8 bits left of tokens. */
function remainder(
  context: LoweringContext,
  name: string,
  like: Value,
  { q, scale }: Quantised,
): string {
  return context.once(`${name}.rest`, (to) => {
    const inputs = [q, scale, zeroPoints(context, like)];
    context.writer.node("DequantizeLinear", inputs, `${to}.rounded`, rowBlocks(like));
    context.writer.node("Sub", [name, `${to}.rounded`], to);
  });
}
