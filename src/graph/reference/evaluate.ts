/**
 * The naive evaluator: every operation by its formula, in float64 loops, one number at a time. It is
 * the oracle that lowerings and pullbacks are checked against, and far too slow for anything else. The
 * rules of training are in `evaluate_training.ts`.
 */
import {
  addProduct,
  columnsOf,
  concatColumns,
  coreProduct,
  type Evaluated,
  linear,
  type Lookup,
  matrixAt,
  multiply,
  type Rule,
  type Rules,
  takeRows,
  zeros,
} from "./evaluate_arrays.ts";
import { attention } from "./evaluate_attention.ts";
import { ENCODER_RULES } from "./evaluate_encoder.ts";
import { ACTIVATIONS } from "./evaluate_gates.ts";
import { TRAINING_RULES } from "./evaluate_training.ts";
import type { Graph, Node, ParameterSource } from "../graph.ts";
import type { OpName } from "../ops.ts";

export type { Evaluated } from "./evaluate_arrays.ts";

/**
 * Runs a graph. Inputs by name; values under `updated` are written in place, as on a device.
 * @throws {TypeError} naming an input that is missing.
 */
export function evaluate(
  graph: Graph,
  inputs: Readonly<Record<string, Evaluated>>,
  parameters: ParameterSource,
): Evaluated[] {
  const values = new Map<number, Evaluated>();
  for (const input of graph.inputs) {
    const given = inputs[input.name];
    if (given === undefined) throw new TypeError(`Cannot evaluate: input ${input.name} is missing`);
    values.set(input.id, given);
  }
  const at: Lookup = (value) => {
    const known = values.get(value.id);
    if (known !== undefined) return known;
    if (value.kind !== "parameter") throw new TypeError(`internal: ${value.name} has no value`);
    const read = { shape: value.shape.map(Number), data: parameters.read(value.name) };
    values.set(value.id, read);
    return read;
  };
  for (const node of graph.nodes) values.set(node.out.id, evaluateNode(node, at));
  return graph.outputs.map(at);
}

function evaluateNode(node: Node, at: Lookup): Evaluated {
  const rule = RULES[node.op] as Rule<typeof node.op>;
  return rule(node.args as never, at);
}

const RULES: Rules<OpName> = {
  ...TRAINING_RULES,
  ...ENCODER_RULES,
  embed({ ids, table }, at) {
    return takeRows(at(table), at(ids));
  },
  rmsNorm({ x, gamma, eps, groups }, at) {
    const input = at(x);
    const g = at(gamma).data;
    const out = zeros(input.shape);
    const width = columnsOf(input) / groups;
    for (let start = 0; start < out.data.length; start += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += input.data[start + i] ** 2;
      const scale = 1 / Math.sqrt(squares / width + eps);
      for (let i = 0; i < width; i++) out.data[start + i] = input.data[start + i] * scale * g[i];
    }
    return out;
  },
  linear({ x, weights, biases }, at) {
    const input = at(x);
    const parts = weights.map((weight, i) => {
      const bias = biases[i];
      return linear(input, at(weight), bias && at(bias));
    });
    return concatColumns(parts);
  },
  lotr({ x, y, a, cores, b, offsets, grid, places }, at) {
    const time = at(grid).data[1];
    const input = at(x);
    const out = zeros(at(y).shape);
    out.data.set(at(y).data);
    const rank = columnsOf(at(a));
    const u = multiply(input, at(a));
    b.forEach((factor, m) => {
      for (let token = 0; token < input.shape[0]; token++) {
        const cell = places === undefined ? token : at(places).data[token];
        const v = coreProduct(u, at(cores), { token, row: Math.floor(cell / time), m, rank });
        addProduct(out, token, offsets[m], v, at(factor));
      }
    });
    return out;
  },
  lora({ x, y, a, b, offsets, cells, places }, at) {
    const [input, cell, place] = [at(x), at(cells), at(places)];
    const out = zeros(at(y).shape);
    out.data.set(at(y).data);
    a.forEach((factor, m) => {
      for (let i = 0; i < place.data.length; i++) {
        const token = cell.data[place.data[i]];
        const piece = Math.floor(place.data[i] / (cell.shape[1] * cell.shape[2]));
        const u = multiply(matrixAt(input, token), matrixAt(at(factor), piece));
        const row = Math.floor(i / place.shape[1]);
        addProduct(out, row, offsets[m], u.data, matrixAt(at(b[m]), piece));
      }
    });
    return out;
  },
  attention,
  add({ a, b }, at) {
    const [left, right] = [at(a), at(b)];
    const out = zeros(left.shape);
    for (let i = 0; i < out.data.length; i++) out.data[i] = left.data[i] + right.data[i];
    return out;
  },
  glu({ x, activation = "silu" }, at) {
    const input = at(x);
    const width = columnsOf(input) / 2;
    const out = zeros([input.shape[0], width]);
    for (let i = 0; i < out.data.length; i++) {
      const start = Math.floor(i / width) * 2 * width + i % width;
      out.data[i] = ACTIVATIONS[activation].of(input.data[start]) * input.data[start + width];
    }
    return out;
  },
  softCap({ x, cap }, at) {
    const out = zeros(at(x).shape);
    at(x).data.forEach((value, i) => out.data[i] = cap * Math.tanh(value / cap));
    return out;
  },
  columns({ x, start, size }, at) {
    const input = at(x);
    const width = columnsOf(input);
    const out = zeros([input.shape[0], size]);
    for (let i = 0; i < out.data.length; i++) {
      out.data[i] = input.data[Math.floor(i / size) * width + start + i % size];
    }
    return out;
  },
  concat({ parts }, at) {
    return concatColumns(parts.map(at));
  },
  rows({ x, index }, at) {
    return takeRows(at(x), at(index));
  },
  regroup({ x, index }, at) {
    return takeRows(at(x), at(index));
  },
};
