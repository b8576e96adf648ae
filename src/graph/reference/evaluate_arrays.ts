/** What the evaluator's rules share: its tensors, and small float64 loops over them. */
import type { OpName, Ops, Value } from "../ops.ts";

/** A tensor of the evaluator: numbers in row-major order and the shape they have in this run. */
export interface Evaluated {
  readonly shape: readonly number[];
  readonly data: Float64Array | Float32Array | Int32Array;
}

/** Looks an argument up. */
export type Lookup = (value: Value) => Evaluated;
export type Rule<K extends OpName> = (args: Ops[K], at: Lookup) => Evaluated;

/** Rules of some operations. */
export type Rules<K extends OpName> = { readonly [P in K]: Rule<P> };

/** A tensor that a rule is filling. */
export interface Filling extends Evaluated {
  readonly data: Float64Array;
}

export function zeros(shape: readonly number[]): Filling {
  return { shape, data: new Float64Array(shape.reduce((product, dim) => product * dim, 1)) };
}

export function columnsOf(value: Evaluated): number {
  return value.shape[value.shape.length - 1];
}

/** Element i of the first dimension: a row, or a matrix [rows, columns] of [K, 1, rows, columns]. */
export function matrixAt({ shape, data }: Evaluated, i: number): Evaluated {
  const [rows, columns] = [1, ...shape.slice(1)].slice(-2);
  const size = rows * columns;
  return { shape: [rows, columns], data: data.subarray(i * size, (i + 1) * size) };
}

export function takeRows(table: Evaluated, index: Evaluated): Evaluated {
  const width = columnsOf(table);
  const out = zeros([index.data.length, width]);
  index.data.forEach((row, i) => {
    out.data.set(table.data.subarray(row * width, (row + 1) * width), i * width);
  });
  return out;
}

/** x [T, k] · weight [n, k]ᵀ + bias. */
export function linear(x: Evaluated, weight: Evaluated, bias: Evaluated | undefined): Evaluated {
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
export function multiply(x: Evaluated, y: Evaluated): Filling {
  const [k, n] = y.shape;
  const out = zeros([x.shape[0], n]);
  for (let i = 0; i < out.data.length; i++) {
    const row = Math.floor(i / n);
    for (let j = 0; j < k; j++) out.data[i] += x.data[row * k + j] * y.data[j * n + i % n];
  }
  return out;
}

/** One token's u · G_m. */
export function coreProduct(
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
export function addProduct(
  out: Filling,
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

export function concatColumns(parts: readonly Evaluated[]): Evaluated {
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
