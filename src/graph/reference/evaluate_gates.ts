/** The evaluator's gates: activations with their slopes, and what training makes of them, by their formulas. */
import { columnsOf, type Rules, zeros } from "./evaluate_arrays.ts";
import type { Activation } from "../ops.ts";

interface Curve {
  readonly of: (x: number) => number;
  readonly slope: (x: number) => number;
}

const RATE = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** tanh of a gelu. */
function bend(x: number): number {
  return Math.tanh(RATE * (x + CUBIC * x ** 3));
}

export const ACTIVATIONS: { readonly [A in Activation]: Curve } = {
  silu: {
    of: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  },
  "gelu_tanh": {
    of: (x) => x / 2 * (1 + bend(x)),
    slope: (x) => (1 + bend(x)) / 2 + x / 2 * (1 - bend(x) ** 2) * RATE * (1 + 3 * CUBIC * x ** 2),
  },
};

export const GATE_RULES: Rules<"gated" | "gluGrad" | "gatedGrad" | "softCapGrad"> = {
  gated({ gate, up, activation = "silu" }, at) {
    const out = zeros(at(gate).shape);
    at(gate).data.forEach((g, i) => out.data[i] = ACTIVATIONS[activation].of(g) * at(up).data[i]);
    return out;
  },
  gluGrad({ x, dy, activation = "silu" }, at) {
    const input = at(x).data;
    const out = zeros(at(x).shape);
    const width = columnsOf(at(dy));
    const { of, slope } = ACTIVATIONS[activation];
    at(dy).data.forEach((d, i) => {
      const start = Math.floor(i / width) * 2 * width + i % width;
      out.data[start] = d * input[start + width] * slope(input[start]);
      out.data[start + width] = d * of(input[start]);
    });
    return out;
  },
  gatedGrad({ gate, up, dy, activation = "silu" }, at) {
    const out = zeros(at(gate).shape);
    at(gate).data.forEach((g, i) => {
      out.data[i] = at(dy).data[i] * at(up).data[i] * ACTIVATIONS[activation].slope(g);
    });
    return out;
  },
  softCapGrad({ y, dy, cap }, at) {
    const out = zeros(at(y).shape);
    at(y).data.forEach((value, i) => out.data[i] = at(dy).data[i] * (1 - (value / cap) ** 2));
    return out;
  },
};
