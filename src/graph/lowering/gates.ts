/**
 * How gates are computed, and the bend of soft caps, forth and back. A pullback computes the gate's
 * activation again: that costs less than keeping it.
 */
import type { Activation } from "../ops.ts";
import type { LoweringContext, Rule } from "./lowering_context.ts";
import { MICROSOFT } from "./onnx.ts";

/** Names of a value's left and right half, [T, d] each. */
export type Halves = readonly [string, string];

/** Takes [T, 2·d] apart. */
export function emitHalves(context: LoweringContext, from: string, to: string): Halves {
  const halves = [`${to}.gate`, `${to}.up`] as const;
  const attributes = { axis: 1, "num_outputs": 2 };
  context.writer.nodes("Split", [from], halves, { attributes });
  return halves;
}

/** f(gate) · up, of values by name. */
export function emitGate(
  context: LoweringContext,
  [gate, up]: Halves,
  activation: Activation | undefined,
  out: string,
): void {
  const opened = emitActivation(context, gate, activation, `${out}.open`);
  context.writer.node("Mul", [opened, up], out);
}

/** One kernel of each activation. */
function emitActivation(
  { writer }: LoweringContext,
  from: string,
  activation: Activation | undefined,
  to: string,
): string {
  if (activation === "gelu_tanh") return writer.node("FastGelu", [from], to, { domain: MICROSOFT });
  const attributes = { alpha: { float: 1 } };
  return writer.node("QuickGelu", [from], to, { domain: MICROSOFT, attributes });
}

/** cap · tanh(x / cap). */
export function emitCapped(
  context: LoweringContext,
  from: string,
  cap: number,
  to: string,
): string {
  const { writer } = context;
  writer.node("Mul", [from, scalar(context, 1 / cap)], `${to}.part`);
  writer.node("Tanh", [`${to}.part`], `${to}.bent`);
  return writer.node("Mul", [`${to}.bent`, scalar(context, cap)], to);
}

/** dy · (1 - (y / cap)²), y being what the cap let through. */
export function emitCappedGrad(
  context: LoweringContext,
  [y, dy]: readonly [string, string],
  cap: number,
  to: string,
): string {
  const { writer } = context;
  writer.node("Mul", [y, scalar(context, 1 / cap)], `${to}.bent`);
  writer.node("Mul", [`${to}.bent`, `${to}.bent`], `${to}.square`);
  writer.node("Sub", [scalar(context, 1), `${to}.square`], `${to}.slope`);
  return writer.node("Mul", [dy, `${to}.slope`], to);
}

type GateOp = "gated" | "gluGrad" | "gatedGrad" | "softCapGrad";

/** The rule of each operation on gates that only training has. */
export const GATE_RULES: { readonly [K in GateOp]: Rule<K> } = {
  gated(context, { gate, up, activation }, out) {
    const name = context.name(gate);
    context.writer.node("Mul", [curveOf(context, name, activation).value, context.name(up)], out);
  },

  gluGrad(context, { x, dy, activation }, out) {
    const { writer } = context;
    const [gate, up] = emitHalves(context, context.name(x), out);
    const { value, slope } = curveOf(context, gate, activation);
    writer.node("Mul", [context.name(dy), value], `${out}.dup`);
    writer.node("Mul", [context.name(dy), up], `${out}.dyup`);
    writer.node("Mul", [`${out}.dyup`, slope()], `${out}.dgate`);
    writer.node("Concat", [`${out}.dgate`, `${out}.dup`], out, { attributes: { axis: 1 } });
  },

  gatedGrad(context, { gate, up, dy, activation }, out) {
    const { writer } = context;
    writer.node("Mul", [context.name(dy), context.name(up)], `${out}.dyup`);
    const { slope } = curveOf(context, context.name(gate), activation);
    writer.node("Mul", [`${out}.dyup`, slope()], out);
  },

  softCapGrad(context, { y, dy, cap }, out) {
    emitCappedGrad(context, [context.name(y), context.name(dy)], cap, out);
  },
};

/** An activation of a value, and its slope there, each emitted once a graph. */
interface Curve {
  readonly value: string;
  readonly slope: () => string;
}

function curveOf(context: LoweringContext, x: string, activation: Activation = "silu"): Curve {
  return CURVES[activation](context, x);
}

const CURVES: {
  readonly [A in Activation]: (context: LoweringContext, x: string) => Curve;
} = {
  silu(context, x) {
    const { writer } = context;
    const sigmoid = context.once(`${x}.sigmoid`, (to) => void writer.node("Sigmoid", [x], to));
    const value = context.once(`${x}.silu`, (to) => void writer.node("Mul", [x, sigmoid], to));
    // silu' = σ · (1 + x − silu)
    const slope = () =>
      context.once(`${x}.silu.slope`, (to) => {
        writer.node("Sub", [x, value], `${to}.rest`);
        writer.node("Add", [`${to}.rest`, scalar(context, 1)], `${to}.rest1`);
        writer.node("Mul", [`${to}.rest1`, sigmoid], to);
      });
    return { value, slope };
  },

  "gelu_tanh"(context, x) {
    const { writer } = context;
    const rate = Math.sqrt(2 / Math.PI);
    const by = (from: string, factor: number, to: string) =>
      writer.node("Mul", [from, scalar(context, factor)], to);
    const plus = (from: string, term: number, to: string) =>
      writer.node("Add", [from, scalar(context, term)], to);
    const square = context.once(`${x}.square`, (to) => void writer.node("Mul", [x, x], to));
    const bend = context.once(`${x}.bend`, (to) => {
      plus(by(square, rate * 0.044715, `${to}.cubic`), rate, `${to}.rate`);
      writer.node("Mul", [x, `${to}.rate`], `${to}.inner`);
      writer.node("Tanh", [`${to}.inner`], to);
    });
    // (1 + tanh) / 2
    const share = context.once(`${x}.share`, (to) => {
      plus(by(bend, 0.5, `${to}.half`), 0.5, to);
    });
    const value = context.once(`${x}.gelu`, (to) => void writer.node("Mul", [x, share], to));
    // gelu' = share + x/2 · (1 − tanh²) · √(2/π) · (1 + 3 · 0.044715 · x²)
    const slope = () =>
      context.once(`${x}.gelu.slope`, (to) => {
        plus(by(square, 1.5 * rate * 0.044715, `${to}.cubic`), 0.5 * rate, `${to}.rate`);
        writer.node("Mul", [bend, bend], `${to}.bend2`);
        writer.node("Sub", [scalar(context, 1), `${to}.bend2`], `${to}.flat`);
        writer.node("Mul", [`${to}.flat`, `${to}.rate`], `${to}.turn`);
        writer.node("Mul", [x, `${to}.turn`], `${to}.steep`);
        writer.node("Add", [share, `${to}.steep`], to);
      });
    return { value, slope };
  },
};

function scalar(context: LoweringContext, value: number): string {
  return context.writer.constant(`float.${value}`, "float32", [], new Float32Array([value]));
}
