/**
 * How following a teacher is computed: the KL divergence by its likeliest tokens and the rest, and its
 * gradients. What a student leaves for the rest is 1 less a sum of probabilities, so right to 2e-7: an
 * error of that times the teacher's rest over the student's, in loss and gradient.
 */
import { LEAST_REST, type Ops, type Value } from "../../ops.ts";
import { emitHeadProduct, emitHeadRows } from "./gradient_kernels.ts";
import type { LoweringContext } from "../lowering_context.ts";
import { onnxType } from "../onnx.ts";

/** Where `s · log s` is taken for 0. */
const LEAST_SHARE = 1e-30;

export function emitKl(
  context: LoweringContext,
  { logits, tokens, shares, p }: Ops["kl"],
  out: string,
): void {
  const { writer } = context;
  const one = context.int64("int64.1", [1]);
  const probabilities = p === undefined ? softmax(context, logits, out) : context.name(p);
  const kept = { attributes: { keepdims: 1 } };
  // log of a probability = logit - largest + log of the largest: a small probability keeps its digits
  writer.node("ReduceMax", [probabilities, one], `${out}.p.max`, kept);
  writer.node("Log", [`${out}.p.max`], `${out}.p.log`);
  writer.node("ReduceMax", [context.name(logits), one], `${out}.largest`, kept);
  writer.node("Sub", [`${out}.p.log`, `${out}.largest`], `${out}.norm`);
  const ids = columnsOf(context, tokens);
  const axis = { attributes: { axis: 1 } };
  writer.node("GatherElements", [context.name(logits), ids], `${out}.chosen`, axis);
  writer.node("Add", [`${out}.chosen`, `${out}.norm`], `${out}.own`);
  const { rest } = ownAndRest(context, probabilities, tokens, out);
  writer.node("Log", [rest], `${out}.others`);
  writer.node("Concat", [`${out}.own`, `${out}.others`], `${out}.theirs`, axis);
  const least = scalar(context, LEAST_SHARE);
  writer.node("Max", [context.name(shares), least], `${out}.positive`);
  writer.node("Log", [`${out}.positive`], `${out}.ours`);
  writer.node("Sub", [`${out}.ours`, `${out}.theirs`], `${out}.gap`);
  writer.node("Mul", [context.name(shares), `${out}.gap`], `${out}.terms`);
  writer.node("ReduceSum", [`${out}.terms`, one], out, { attributes: { keepdims: 0 } });
}

export function emitKlGrad(
  context: LoweringContext,
  { logits, tokens, shares, dy }: Ops["klGrad"],
  out: string,
): void {
  const { writer } = context;
  const p = softmax(context, logits, out);
  const { own, others, theirs } = gaps(context, p, tokens, shares, out);
  writer.node("Mul", [p, others], `${out}.all`);
  writer.node("Sub", [own, theirs], `${out}.less`);
  const inputs = [`${out}.all`, columnsOf(context, tokens), `${out}.less`];
  writer.node("ScatterElements", inputs, `${out}.d`, { attributes: { axis: 1 } });
  writer.node("Unsqueeze", [context.name(dy), context.int64("int64.1", [1])], `${out}.dy`);
  writer.node("Mul", [`${out}.d`, `${out}.dy`], out);
}

/** The teacher's tokens alone get a product of their own: no second [R, V] is made. */
export function emitKlHeadGrad(
  context: LoweringContext,
  { p, weight, tokens, shares, dy }: Ops["klHeadGrad"],
  out: string,
): void {
  const { writer } = context;
  const one = context.int64("int64.1", [1]);
  const { own, others, ratio, theirs } = gaps(context, context.name(p), tokens, shares, out);
  emitHeadProduct(context, { p, weight }, `${out}.product`);
  writer.node("Mul", [`${out}.product`, others], `${out}.all`);
  emitHeadRows(context, { weight, index: tokens }, `${out}.rows`);
  writer.node("Mul", [own, ratio], `${out}.kept`);
  writer.node("Sub", [`${out}.kept`, theirs], `${out}.share`);
  writer.node("Unsqueeze", [`${out}.share`, one], `${out}.shares`);
  writer.node("MatMul", [`${out}.shares`, `${out}.rows`], `${out}.few3`);
  writer.node("Squeeze", [`${out}.few3`, one], `${out}.few`);
  writer.node("Add", [`${out}.all`, `${out}.few`], `${out}.d`);
  writer.node("Unsqueeze", [context.name(dy), one], `${out}.dy`);
  writer.node("Mul", [`${out}.d`, `${out}.dy`], out);
}

/** Names of [R, K] and [R, 1] values that both gradients are made of. */
interface Gaps {
  /** The student's probabilities of the teacher's tokens, and the teacher's. */
  readonly own: string;
  readonly theirs: string;
  /** t, and 1 - t: the teacher's rest over the student's. */
  readonly ratio: string;
  readonly others: string;
}

function gaps(
  context: LoweringContext,
  p: string,
  tokens: Value,
  shares: Value,
  out: string,
): Gaps {
  const { writer } = context;
  const count = Number(tokens.shape[1]);
  const { own, rest } = ownAndRest(context, p, tokens, out);
  const cut = (from: number, to: number, name: string) => {
    const bounds = [from, to].map((at) => context.int64(`int64.${at}`, [at]));
    const inputs = [context.name(shares), ...bounds, context.int64("int64.1", [1])];
    return writer.node("Slice", inputs, name);
  };
  const theirs = cut(0, count, `${out}.theirs`);
  const ratio = writer.node("Div", [cut(count, count + 1, `${out}.left`), rest], `${out}.ratio`);
  const others = writer.node("Sub", [scalar(context, 1), ratio], `${out}.others`);
  return { own, theirs, ratio, others };
}

/** The student's probabilities of the teacher's tokens, [R, K], and what they leave, [R, 1]. */
function ownAndRest(
  context: LoweringContext,
  p: string,
  tokens: Value,
  out: string,
): { readonly own: string; readonly rest: string } {
  const { writer } = context;
  const one = context.int64("int64.1", [1]);
  const inputs = [p, columnsOf(context, tokens)];
  const own = writer.node("GatherElements", inputs, `${out}.q`, { attributes: { axis: 1 } });
  writer.node("ReduceSum", [own, one], `${out}.q.sum`, { attributes: { keepdims: 1 } });
  writer.node("Sub", [scalar(context, 1), `${out}.q.sum`], `${out}.q.left`);
  const rest = writer.node(
    "Max",
    [`${out}.q.left`, scalar(context, LEAST_REST)],
    `${out}.q.rest`,
  );
  return { own, rest };
}

function softmax(context: LoweringContext, logits: Value, out: string): string {
  const attributes = { axis: 1 };
  return context.writer.node("Softmax", [context.name(logits)], `${out}.p`, { attributes });
}

function scalar({ writer }: LoweringContext, value: number): string {
  return writer.constant(`float.${value}`, "float32", [], new Float32Array([value]));
}

/** int32 [R, K] as int64. */
function columnsOf(context: LoweringContext, tokens: Value): string {
  return context.once(`${context.name(tokens)}.columns`, (to) => {
    const attributes = { to: onnxType("int64") };
    context.writer.node("Cast", [context.name(tokens)], to, { attributes });
  });
}
