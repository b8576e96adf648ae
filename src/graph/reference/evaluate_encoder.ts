/**
 * The evaluator's rules of encoders' operations and of their gradients, by their formulas: texts
 * attend to all of their own tokens, and norms have a mean and a shift.
 */
import type { BidirectionalForm, GeluForm, OpName } from "../ops.ts";
import {
  columnsOf,
  type Evaluated,
  type Lookup,
  multiply,
  type Rules,
  zeros,
} from "./evaluate_arrays.ts";

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

export const ENCODER_RULES: Rules<EncoderOp> = {
  layerNorm({ x, gamma, beta, eps }, at) {
    const out = zeros(at(x).shape);
    const width = columnsOf(out);
    const [g, b] = [at(gamma).data, at(beta).data];
    for (let start = 0; start < out.data.length; start += width) {
      const { normed } = standardised(at(x).data, start, width, eps);
      normed.forEach((value, i) => out.data[start + i] = value * g[i] + b[i]);
    }
    return out;
  },
  layerNormGrad({ x, gamma, dy, eps }, at) {
    const out = zeros(at(x).shape);
    const width = columnsOf(out);
    for (let start = 0; start < out.data.length; start += width) {
      const { normed, scale } = standardised(at(x).data, start, width, eps);
      const d = normed.map((_, i) => at(dy).data[start + i] * at(gamma).data[i]);
      const mean = total(d) / width;
      const along = total(d.map((value, i) => value * normed[i])) / width;
      d.forEach((value, i) => out.data[start + i] = scale * (value - mean - normed[i] * along));
    }
    return out;
  },
  gelu({ x, form }, at) {
    const out = zeros(at(x).shape);
    at(x).data.forEach((value, i) => out.data[i] = value * PHI[form](value).value);
    return out;
  },
  geluGrad({ x, dy, form }, at) {
    const out = zeros(at(x).shape);
    at(x).data.forEach((value, i) => {
      const { value: phi, slope } = PHI[form](value);
      out.data[i] = at(dy).data[i] * (phi + value * slope);
    });
    return out;
  },
  pool({ x, weights }, at) {
    return multiply(at(weights), at(x));
  },
  poolGrad({ weights, dy }, at) {
    const [vectors, tokens] = at(weights).shape;
    const turned = zeros([tokens, vectors]);
    turned.data.forEach((_, i) => {
      turned.data[i] = at(weights).data[i % vectors * tokens + Math.floor(i / vectors)];
    });
    return multiply(turned, at(dy));
  },
  relativeBias({ table, grid }, at) {
    const time = Number(at(grid).data[1]);
    const [heads, distances] = at(table).shape;
    const out = zeros([1, heads, time, time]);
    out.data.forEach((_, n) => {
      const [h, i, j] = [Math.floor(n / time ** 2), Math.floor(n / time) % time, n % time];
      out.data[n] = at(table).data[h * distances + j - i + (distances - 1) / 2];
    });
    return out;
  },
  bidirectionalAttention(args, at) {
    const { heads, headDim } = args;
    const qkv = at(args.qkv);
    const out = zeros([qkv.shape[0], heads * headDim]);
    forEachQuery(args, at, ({ head, token, keys, p }) => {
      p.forEach((weight, j) => {
        for (let d = 0; d < headDim; d++) {
          const v = qkv.data[keys[j] * 3 * heads * headDim + (2 * heads + head) * headDim + d];
          out.data[token * heads * headDim + head * headDim + d] += weight * v;
        }
      });
    });
    return out;
  },
  bidirectionalAttentionGrad(args, at) {
    const { heads, headDim, scale } = args;
    const qkv = at(args.qkv);
    const dy = at(args.dy).data;
    const grad = zeros(qkv.shape);
    const place = (token: number, part: number, head: number) =>
      token * 3 * heads * headDim + (part * heads + head) * headDim;
    forEachQuery(args, at, ({ head, token, keys, p }) => {
      const from = token * heads * headDim + head * headDim;
      const dp = keys.map((key) => dot(headDim, dy, from, qkv.data, place(key, 2, head)));
      const mean = total(dp.map((value, j) => value * p[j]));
      const q = place(token, 0, head);
      keys.forEach((key, j) => {
        const ds = p[j] * (dp[j] - mean) * scale;
        const [k, v] = [place(key, 1, head), place(key, 2, head)];
        for (let d = 0; d < headDim; d++) {
          grad.data[q + d] += ds * qkv.data[k + d];
          grad.data[k + d] += ds * qkv.data[q + d];
          grad.data[v + d] += p[j] * dy[from + d];
        }
      });
    });
    return grad;
  },
};

/** A row less its mean, in units of its deviation, and what it was multiplied by. */
function standardised(
  x: Evaluated["data"],
  start: number,
  width: number,
  eps: number,
): { readonly normed: readonly number[]; readonly scale: number } {
  const row = Array.from(x.subarray(start, start + width));
  const mean = total(row) / width;
  const scale = 1 / Math.sqrt(total(row.map((value) => (value - mean) ** 2)) / width + eps);
  return { normed: row.map((value) => (value - mean) * scale), scale };
}

/** A distribution's function and its density at x. */
type Phi = (x: number) => { readonly value: number; readonly slope: number };

const PHI: Readonly<Record<GeluForm, Phi>> = {
  exact: (x) => ({
    value: (1 + erf(x / Math.SQRT2)) / 2,
    slope: Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI),
  }),
  tanh(x) {
    const [root, cubic] = [Math.sqrt(2 / Math.PI), 0.044715];
    const t = Math.tanh(root * (x + cubic * x ** 3));
    return { value: (1 + t) / 2, slope: (1 - t * t) / 2 * root * (1 + 3 * cubic * x * x) };
  },
};

/** By its Maclaurin series near 0, by its continued fraction far off: to 1e-14 (DLMF 7.6.2, 7.9.3). */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 5.9) return Math.sign(x);
  if (z > 2.5) {
    let fraction = 0;
    for (let n = 60; n >= 1; n--) fraction = n / 2 / (z + fraction);
    return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
  }
  let [term, sum] = [z, z];
  for (let n = 1; n < 60; n++) {
    term *= 2 * z * z / (2 * n + 1);
    sum += term;
  }
  return Math.sign(x) * 2 / Math.sqrt(Math.PI) * Math.exp(-z * z) * sum;
}

/** One head of one token, the tokens that it sees, and how much of each. */
interface Query {
  readonly head: number;
  readonly token: number;
  readonly keys: readonly number[];
  readonly p: readonly number[];
}

function forEachQuery(
  args: BidirectionalForm & { readonly qkv: Parameters<Lookup>[0] },
  at: Lookup,
  visit: (query: Query) => void,
): void {
  const { heads, headDim, scale } = args;
  const [batch, time] = Array.from(at(args.grid).data, Number);
  const { data } = at(args.qkv);
  const width = 3 * heads * headDim;
  for (let row = 0; row < batch; row++) {
    const cells = Array.from({ length: at(args.lengths).data[row] }, (_, t) => row * time + t);
    const tokens = cells.map((cell) => args.cells === undefined ? cell : at(args.cells).data[cell]);
    for (let head = 0; head < heads; head++) {
      tokens.forEach((token, i) => {
        const scores = tokens.map((key, j) => {
          const [q, k] = [token * width + head * headDim, key * width + (heads + head) * headDim];
          const bias = args.bias === undefined
            ? 0
            : at(args.bias).data[(head * time + i) * time + j];
          return dot(headDim, data, q, data, k) * scale + bias;
        });
        const largest = Math.max(...scores);
        const p = scores.map((score) => Math.exp(score - largest));
        visit({ head, token, keys: tokens, p: p.map((one) => one / total(p)) });
      });
    }
  }
}

function dot(
  size: number,
  a: Evaluated["data"],
  from: number,
  b: Evaluated["data"],
  of: number,
): number {
  let sum = 0;
  for (let d = 0; d < size; d++) sum += a[from + d] * b[of + d];
  return sum;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
