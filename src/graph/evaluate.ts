/**
 * The naive evaluator: every operation by its formula, in float64 loops, one number at a time. It is
 * the oracle that lowerings are checked against, and far too slow for anything else.
 */
import type { Graph, Node, ParameterSource, Value } from "./graph.ts";
import type { OpName, Ops } from "./ops.ts";

/** A tensor of the evaluator: numbers in row-major order and the shape they have in this run. */
export interface Evaluated {
  readonly shape: readonly number[];
  readonly data: Float64Array | Float32Array | Int32Array;
}

/** Looks an argument up. */
type Lookup = (value: Value) => Evaluated;
type Rule<K extends OpName> = (args: Ops[K], at: Lookup) => Evaluated;

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

const RULES: { readonly [K in OpName]: Rule<K> } = {
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
  lotr({ x, y, a, cores, b, offsets, grid }, at) {
    const [batch, time] = at(grid).data;
    const input = at(x);
    const out = zeros(at(y).shape);
    out.data.set(at(y).data);
    const rank = columnsOf(at(a));
    const u = multiply(input, at(a));
    b.forEach((factor, m) => {
      for (let token = 0; token < batch * time; token++) {
        const v = coreProduct(u, at(cores), { token, row: Math.floor(token / time), m, rank });
        addProduct(out, token, offsets[m], v, at(factor));
      }
    });
    return out;
  },
  attention(args, at) {
    return attention(args, at);
  },
  add({ a, b }, at) {
    const [left, right] = [at(a), at(b)];
    const out = zeros(left.shape);
    for (let i = 0; i < out.data.length; i++) out.data[i] = left.data[i] + right.data[i];
    return out;
  },
  swiglu({ x }, at) {
    const input = at(x);
    const width = columnsOf(input) / 2;
    const out = zeros([input.shape[0], width]);
    for (let i = 0; i < out.data.length; i++) {
      const start = Math.floor(i / width) * 2 * width + i % width;
      const gate = input.data[start];
      out.data[i] = gate / (1 + Math.exp(-gate)) * input.data[start + width];
    }
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
  channelMax({ x }, at) {
    const input = at(x);
    const width = columnsOf(input);
    const out = zeros([width]);
    input.data.forEach((value, i) => {
      out.data[i % width] = Math.max(out.data[i % width], Math.abs(value));
    });
    return out;
  },
};

function zeros(shape: readonly number[]): { shape: readonly number[]; data: Float64Array } {
  return { shape, data: new Float64Array(shape.reduce((product, dim) => product * dim, 1)) };
}

function columnsOf(value: Evaluated): number {
  return value.shape[value.shape.length - 1];
}

function takeRows(table: Evaluated, index: Evaluated): Evaluated {
  const width = columnsOf(table);
  const out = zeros([index.data.length, width]);
  index.data.forEach((row, i) => {
    out.data.set(table.data.subarray(row * width, (row + 1) * width), i * width);
  });
  return out;
}

/** x [T, k] · weight [n, k]ᵀ + bias. */
function linear(x: Evaluated, weight: Evaluated, bias: Evaluated | undefined): Evaluated {
  const [n, k] = weight.shape;
  const out = zeros([x.shape[0], n]);
  for (let i = 0; i < out.data.length; i++) {
    const [row, column] = [Math.floor(i / n), i % n];
    let sum = bias?.data[column] ?? 0;
    for (let j = 0; j < k; j++) sum += x.data[row * k + j] * weight.data[column * k + j];
    out.data[i] = sum;
  }
  return out;
}

/** x [T, k] · y [k, n]. */
function multiply(x: Evaluated, y: Evaluated): Evaluated {
  const [k, n] = y.shape;
  const out = zeros([x.shape[0], n]);
  for (let i = 0; i < out.data.length; i++) {
    const row = Math.floor(i / n);
    for (let j = 0; j < k; j++) out.data[i] += x.data[row * k + j] * y.data[j * n + i % n];
  }
  return out;
}

/** One token's u · G_m. */
function coreProduct(
  u: Evaluated,
  cores: Evaluated,
  at: { readonly token: number; readonly row: number; readonly m: number; readonly rank: number },
): Float64Array {
  const { token, row, m, rank } = at;
  const width = columnsOf(cores);
  return Float64Array.from({ length: rank }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < rank; i++) {
      sum += u.data[token * rank + i] * cores.data[(row * rank + i) * width + m * rank + j];
    }
    return sum;
  });
}

/** out[token, offset …] += v · b. */
function addProduct(
  out: { readonly shape: readonly number[]; readonly data: Float64Array },
  token: number,
  offset: number,
  v: Float64Array,
  b: Evaluated,
): void {
  const width = columnsOf(b);
  const start = token * columnsOf(out) + offset;
  v.forEach((value, i) => {
    for (let j = 0; j < width; j++) out.data[start + j] += value * b.data[i * width + j];
  });
}

function concatColumns(parts: readonly Evaluated[]): Evaluated {
  const width = parts.reduce((sum, part) => sum + columnsOf(part), 0);
  const out = zeros([parts[0]?.shape[0] ?? 0, width]);
  let offset = 0;
  for (const part of parts) {
    const size = columnsOf(part);
    for (let i = 0; i < part.data.length; i++) {
      out.data[Math.floor(i / size) * width + offset + i % size] = part.data[i];
    }
    offset += size;
  }
  return out;
}

function attention(args: Ops["attention"], at: Lookup): Evaluated {
  const [batch, time] = at(args.grid).data;
  const { heads, kvHeads, headDim } = args;
  const qkv = Float64Array.from(at(args.qkv).data);
  const width = (heads + 2 * kvHeads) * headDim;
  const out = zeros([batch * time, heads * headDim]);
  const total = at(args.total).data[0];
  for (let row = 0; row < batch; row++) {
    const end = at(args.lengths).data[row] + 1;
    const past = time === total ? 0 : end - time;
    for (let t = 0; t < time && past + t < end; t++) {
      const token = qkv.subarray((row * time + t) * width, (row * time + t + 1) * width);
      for (let h = 0; h < heads + kvHeads; h++) {
        rotate(
          token.subarray(h * headDim, (h + 1) * headDim),
          past + t,
          at(args.cos),
          at(args.sin),
        );
      }
      store(args, at, token, row, past + t);
      for (let h = 0; h < heads; h++) {
        attend(
          args,
          at,
          token,
          { row, position: past + t, head: h },
          out.data.subarray(
            ((row * time + t) * heads + h) * headDim,
            ((row * time + t) * heads + h + 1) * headDim,
          ),
        );
      }
    }
  }
  return out;
}

/** Rotates dimension i with dimension i + D/2, in place. */
function rotate(head: Float64Array, position: number, cos: Evaluated, sin: Evaluated): void {
  const half = head.length / 2;
  for (let i = 0; i < half; i++) {
    const [c, s] = [cos.data[position * half + i], sin.data[position * half + i]];
    const [a, b] = [head[i], head[i + half]];
    head[i] = a * c - b * s;
    head[i + half] = b * c + a * s;
  }
}

/** Where head `kv` of a row's `position` begins in a cache. */
function cacheOffset(cache: Evaluated, row: number, kv: number, position: number): number {
  const [, kvHeads, capacity, dim] = cache.shape;
  return ((row * kvHeads + kv) * capacity + position) * dim;
}

function store(
  args: Ops["attention"],
  at: Lookup,
  token: Float64Array,
  row: number,
  position: number,
): void {
  const { heads, kvHeads, headDim } = args;
  const caches = [at(args.keys), at(args.values)];
  caches.forEach((cache, i) => {
    for (let kv = 0; kv < kvHeads; kv++) {
      const start = (heads + i * kvHeads + kv) * headDim;
      cache.data.set(
        token.subarray(start, start + headDim),
        cacheOffset(cache, row, kv, position),
      );
    }
  });
}

function attend(
  args: Ops["attention"],
  at: Lookup,
  token: Float64Array,
  where: { readonly row: number; readonly position: number; readonly head: number },
  out: Float64Array,
): void {
  const { heads, kvHeads, headDim, scale, window } = args;
  const { row, position, head } = where;
  const kv = Math.floor(head / (heads / kvHeads));
  const [keys, values] = [at(args.keys), at(args.values)];
  const first = window === undefined ? 0 : Math.max(0, position - window + 1);
  const scores: number[] = [];
  for (let p = first; p <= position; p++) {
    const k = cacheOffset(keys, row, kv, p);
    let sum = 0;
    for (let i = 0; i < headDim; i++) sum += token[head * headDim + i] * keys.data[k + i];
    scores.push(sum * scale);
  }
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const norm = weights.reduce((sum, weight) => sum + weight, 0);
  weights.forEach((weight, i) => {
    const v = cacheOffset(values, row, kv, first + i);
    for (let d = 0; d < headDim; d++) out[d] += weight / norm * values.data[v + d];
  });
}
