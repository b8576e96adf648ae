/**
 * The evaluator's rules of losses and of what pullbacks are made of, by their formulas. The rules of
 * the operations that serving uses are in `evaluate.ts`.
 */
import {
  columnsOf,
  concatColumns,
  type Evaluated,
  multiply,
  type Rules,
  zeros,
} from "./evaluate_arrays.ts";
import { attentionMask, causalAttention, causalAttentionGrad } from "./evaluate_causal.ts";
import { GATE_RULES } from "./evaluate_gates.ts";
import { DISTILLATION_RULES } from "./evaluate_distillation.ts";
import type { ENCODER_RULES } from "./evaluate_encoder.ts";
import type { OpName } from "../ops.ts";

/** Operations of training graphs only. */
type TrainingOp = Extract<
  OpName,
  | "attentionMask"
  | "causalAttention"
  | "positions"
  | "headCells"
  | "headPlaces"
  | "softmax"
  | "nll"
  | keyof typeof DISTILLATION_RULES
  | "hits"
  | "project"
  | "outer"
  | "gated"
  | "spread"
  | "scatterRows"
  | "coreProduct"
  | Exclude<Extract<OpName, `${string}Grad`>, keyof typeof ENCODER_RULES>
>;

export const TRAINING_RULES: Rules<TrainingOp> = {
  attentionMask,
  causalAttention,
  causalAttentionGrad,
  positions({ offsets, grid }, at) {
    const [batch, time] = Array.from(at(grid).data, Number);
    const out = zeros([batch, time]);
    out.data.forEach((_, i) => out.data[i] = at(offsets).data[Math.floor(i / time)] + i % time);
    return out;
  },
  softmax({ x }, at) {
    const out = zeros(at(x).shape);
    const width = columnsOf(out);
    rowsOf(at(x)).forEach((row, i) => {
      const norm = logSumExp(row);
      row.forEach((value, j) => out.data[i * width + j] = Math.exp(value - norm));
    });
    return out;
  },
  headCells({ cells, grid, width, first, count }, at) {
    const [batch, time] = Array.from(at(grid).data, Number);
    const out = zeros([batch, count, time]);
    out.data.forEach((_, i) => {
      const [row, head] = [Math.floor(i / (count * time)), Math.floor(i / time) % count];
      out.data[i] = at(cells).data[row * time + i % time] * width + first + head;
    });
    return out;
  },
  headPlaces({ places, grid, count }, at) {
    const time = Number(at(grid).data[1]);
    const out = zeros([at(places).data.length, count]);
    out.data.forEach((_, i) => {
      const cell = at(places).data[Math.floor(i / count)];
      out.data[i] = (Math.floor(cell / time) * count + i % count) * time + cell % time;
    });
    return out;
  },
  nll({ logits, targets }, at) {
    return byRow(at(logits), at(targets), (row, target) => logSumExp(row) - row[target]);
  },
  ...DISTILLATION_RULES,
  hits({ logits, targets }, at) {
    return byRow(at(logits), at(targets), (row, target) => row[target] === largest(row) ? 1 : 0);
  },
  nllGrad({ logits, targets, dy }, at) {
    const out = zeros(at(logits).shape);
    const width = columnsOf(out);
    rowsOf(at(logits)).forEach((row, i) => {
      const norm = logSumExp(row);
      row.forEach((logit, j) => {
        const hot = j === at(targets).data[i] ? 1 : 0;
        out.data[i * width + j] = (Math.exp(logit - norm) - hot) * at(dy).data[i];
      });
    });
    return out;
  },
  headGrad({ p, weight, targets, dy }, at) {
    const out = zeros([at(p).shape[0], columnsOf(at(weight))]);
    const rows = rowsOf(at(weight));
    const width = columnsOf(out);
    rowsOf(at(p)).forEach((probabilities, i) => {
      probabilities.forEach((probability, j) => {
        const share = (probability - (j === at(targets).data[i] ? 1 : 0)) * at(dy).data[i];
        rows[j].forEach((value, d) => out.data[i * width + d] += share * value);
      });
    });
    return out;
  },
  linearGrad({ dy, weights }, at) {
    return multiply(at(dy), stacked(weights.map(at)));
  },
  /** With n = x · s, s = 1 / sqrt(mean(x²) + eps), g = dy · gamma: dx = s · (g - n · mean(g · n)). */
  rmsNormGrad({ x, gamma, dy, eps, groups }, at) {
    const [input, gradient, scales] = [at(x).data, at(dy).data, at(gamma).data];
    const out = zeros(at(x).shape);
    const width = columnsOf(out) / groups;
    for (let start = 0; start < out.data.length; start += width) {
      let [squares, products] = [0, 0];
      for (let i = 0; i < width; i++) {
        squares += input[start + i] ** 2;
        products += gradient[start + i] * scales[i] * input[start + i];
      }
      const s = 1 / Math.sqrt(squares / width + eps);
      const mean = s * products / width;
      for (let i = 0; i < width; i++) {
        out.data[start + i] = s * (gradient[start + i] * scales[i] - input[start + i] * s * mean);
      }
    }
    return out;
  },
  ...GATE_RULES,
  spread({ x, start, width }, at) {
    const out = zeros([at(x).shape[0], width]);
    rowsOf(at(x)).forEach((row, i) => out.data.set(row, i * width + start));
    return out;
  },
  scatterRows({ x, index, like }, at) {
    const out = zeros(at(like).shape);
    const width = columnsOf(out);
    rowsOf(at(x)).forEach((row, i) => {
      const to = at(index).data[i] * width;
      row.forEach((value, j) => out.data[to + j] += value);
    });
    return out;
  },
  project({ x, w }, at) {
    return multiply(at(x), at(w));
  },
  projectGrad({ dy, w }, at) {
    return multiply(at(dy), transposed(at(w)));
  },
  outer({ a, b }, at) {
    return multiply(transposed(at(a)), at(b));
  },
  coreProduct({ u, cores, grid }, at) {
    const pieces = batches(at(u), at(grid));
    return stacked(pieces.map((piece, n) => multiply(piece, coreOf(at(cores), n))));
  },
  coreProductGrad({ dv, cores, grid }, at) {
    const pieces = batches(at(dv), at(grid));
    return stacked(pieces.map((piece, n) => multiply(piece, transposed(coreOf(at(cores), n)))));
  },
  coreGrad({ u, dv, cores, grid }, at) {
    const right = batches(at(dv), at(grid));
    const pieces = batches(at(u), at(grid)).map((left, n) => multiply(transposed(left), right[n]));
    return { shape: at(cores).shape, data: stacked(pieces).data };
  },
  lotrGrad({ dy, b, offsets }, at) {
    const parts = b.map((factor, m) => {
      const right = transposed(at(factor));
      return multiply(columns(at(dy), offsets[m], right.shape[0]), right);
    });
    return concatColumns(parts);
  },
};

function rowsOf({ shape: [count], data }: Evaluated): Evaluated["data"][] {
  const width = data.length / count;
  return Array.from({ length: count }, (_, i) => data.subarray(i * width, (i + 1) * width));
}

function byRow(
  logits: Evaluated,
  targets: Evaluated,
  compute: (row: Evaluated["data"], target: number) => number,
): Evaluated {
  const data = rowsOf(logits).map((row, i) => compute(row, targets.data[i]));
  return { shape: [data.length], data: Float64Array.from(data) };
}

function logSumExp(row: Evaluated["data"]): number {
  const top = largest(row);
  let sum = 0;
  for (const value of row) sum += Math.exp(value - top);
  return top + Math.log(sum);
}

function largest(row: Evaluated["data"]): number {
  let top = -Infinity;
  for (const value of row) top = Math.max(top, value);
  return top;
}

function transposed({ shape: [rows, columns], data }: Evaluated): Evaluated {
  const out = zeros([columns, rows]);
  data.forEach((value, i) => out.data[i % columns * rows + Math.floor(i / columns)] = value);
  return out;
}

/** One below the other: parts [n_i, d] → [Σ n_i, d]. */
function stacked(parts: readonly Evaluated[]): Evaluated {
  const rows = parts.reduce((sum, { shape }) => sum + shape[0], 0);
  return {
    shape: [rows, columnsOf(parts[0])],
    data: Float64Array.from(parts.flatMap(({ data }) => Array.from(data))),
  };
}

function columns(x: Evaluated, start: number, size: number): Evaluated {
  const out = zeros([x.shape[0], size]);
  rowsOf(x).forEach((row, i) => out.data.set(row.subarray(start, start + size), i * size));
  return out;
}

/** The tokens of each row of the batch: x [batch · time, d] → [time, d] each. */
function batches(x: Evaluated, grid: Evaluated): Evaluated[] {
  const [batch, time] = Array.from(grid.data, Number);
  const length = time * columnsOf(x);
  return Array.from({ length: batch }, (_, n) => ({
    shape: [time, columnsOf(x)],
    data: x.data.subarray(n * length, (n + 1) * length),
  }));
}

/** Cores of one row of the batch, [r, m·r]. */
function coreOf({ shape: [, rank, width], data }: Evaluated, n: number): Evaluated {
  return { shape: [rank, width], data: data.subarray(n * rank * width, (n + 1) * rank * width) };
}
