/**
 * How a linear is computed, by kernel:
 *
 * - `float32`: MatMul, over weights in the activations' type.
 * - `float32-shared`: the same over the weight as its pullback reads it: one copy for both.
 * - `w8a8`: int8 weights with a scale per output column, activations quantised per token inside the
 *   graph (symmetric, 127 steps, stored as u8 around 128), MLAS's u8 × s8 product, or u8 × u8 where
 *   the processor's u8 × s8 is not exact. A token's result does not depend on its neighbours.
 * - `nbits8`: 8 bits in blocks, rounded from float32.
 * - `nbits4`: the file's own blocks of 4 bits; other weights are rounded to such.
 * - `stored`: the file's own blocks, of 4 or 8 bits; other weights are rounded to 8.
 */
import type { Ops, Value } from "../ops.ts";
import type { LinearKernel, LoweringContext } from "./lowering_context.ts";
import { MICROSOFT, type NodeOptions, type OnnxWriter } from "./onnx.ts";
import {
  around128,
  quantiseColumns,
  type QuantisedColumns,
  type RowSource,
  transpose,
} from "../quantise.ts";
import { emitProduct } from "./products.ts";
import { eightBits, emitBlocks, fourBits, ownBlocks } from "./block_kernels.ts";
import { together } from "./lazy.ts";

type Emit = (context: LoweringContext, linear: Linear, out: string) => void;

/** A linear with its weights side by side. */
export interface Linear {
  readonly x: Value;
  /** Name of all weights together, the prefix of what is made from them. */
  readonly name: string;
  readonly weights: readonly Value[];
  readonly inputs: number;
  readonly outputs: number;
}

/** Emits a linear with the kernel that the plan names, and its bias. */
export function emitLinear(context: LoweringContext, args: Ops["linear"], out: string): void {
  const { x, weights, biases } = args;
  const name = weights.map((weight) => weight.name).join("|");
  const outputs = weights.reduce((sum, weight) => sum + Number(weight.shape[0]), 0);
  const linear = { x, name, weights, inputs: Number(x.shape[1]), outputs };
  const emit = KERNELS[context.plan.linear(weights[0]?.name ?? "")];
  if (biases.length === 0) return emit(context, linear, out);
  emit(context, linear, `${out}.product`);
  context.writer.node("Add", [`${out}.product`, joinedBiases(context, biases, outputs)], out);
}

function joinedBiases(
  context: LoweringContext,
  biases: readonly Value[],
  outputs: number,
): string {
  const [first] = biases;
  if (first !== undefined && first.kind !== "parameter") return context.name(first);
  const name = biases.map((value) => value.name).join("|");
  return context.floatWeight(name, [outputs], () => joined(context, biases));
}

const KERNELS: { readonly [K in LinearKernel]: Emit } = {
  float32(context, { x, name, weights, inputs, outputs }, out) {
    const weight = context.floatWeight(
      `${name}:f32`,
      [inputs, outputs],
      () => transpose(joined(context, weights), outputs, inputs),
    );
    context.writer.node("MatMul", [context.name(x), weight], out);
  },

  "float32-shared"(context, { x, name, weights, inputs, outputs }, out) {
    const weight = float32Weight(context, { name, weights, inputs, outputs });
    const form = { rank: 2, transposed: "second" } as const;
    emitProduct(context, [context.name(x), weight], form, out);
  },

  w8a8(context, { x, name, weights, inputs, outputs }, out) {
    const make = () => quantiseColumns(joinedRows(context, weights, inputs));
    const matrix = integerMatrix(context, `${name}:w8`, [inputs, outputs], make);
    integerProduct(context, quantised(context, context.name(x), x), matrix, out);
  },

  nbits8: (context, linear, out) => emitBlocks(context, linear, out, eightBits),
  nbits4: (context, linear, out) => emitBlocks(context, linear, out, fourBits),
  stored: (context, linear, out) => emitBlocks(context, linear, out, ownBlocks),
};

/** Weights one below the other, [Σ d_out_i, d_in], as they are; an input of the graph alone. */
export function float32Weight(
  context: LoweringContext,
  { name, weights, inputs, outputs }: Omit<Linear, "x">,
): string {
  const [first] = weights;
  if (first !== undefined && first.kind !== "parameter") return context.name(first);
  const made = () => joined(context, weights);
  return context.weight(`${name}:f32t`, "float32", [outputs, inputs], made);
}

/** Names of W8A8's weights and of their scales by column. */
export interface IntegerMatrix {
  readonly q: string;
  readonly scales: string;
}

/** W8A8's weights as the plan keeps them. */
export function integerMatrix(
  context: LoweringContext,
  name: string,
  shape: readonly [number, number],
  make: () => Promise<QuantisedColumns>,
): IntegerMatrix {
  const { integers = "int8" } = context.plan;
  const made = together(async () => {
    const { q, scales } = await make();
    return { q: integers === "uint8" ? around128(q) : q, scales };
  });
  const q = context.weight(
    integers === "uint8" ? `${name}u` : name,
    integers,
    shape,
    async () => (await made()).q,
  );
  const scales = context.weight(
    `${name}.scales`,
    "float32",
    [shape[1]],
    async () => (await made()).scales,
  );
  return { q, scales };
}

/** What W8A8's weights have as their zero: an input of the product, none where they are int8. */
export function integerZero({ plan, writer }: LoweringContext): string | undefined {
  return plan.integers === "uint8" ? centre(writer) : undefined;
}

function centre(writer: OnnxWriter): string {
  return writer.constant("uint8.128", "uint8", [], new Uint8Array([128]));
}

/** Names of numbers in u8, of their rows' scales, and whether they lie around 128 (or from 0 up). */
export interface Quantised {
  readonly q: string;
  readonly scale: string;
  readonly from?: "128" | "0";
}

/** Tokens in u8 times W8A8's weights. */
export function integerProduct(
  context: LoweringContext,
  { q, scale, from = "128" }: Quantised,
  matrix: IntegerMatrix,
  out: string,
): void {
  const { writer } = context;
  const one = writer.constant("float.1", "float32", [], new Float32Array([1]));
  const zeros = [from === "128" ? centre(writer) : "", integerZero(context) ?? ""];
  while (zeros.at(-1) === "") zeros.pop();
  const product = [q, matrix.q, one, matrix.scales, ...zeros];
  writer.node("MatMulIntegerToFloat", product, `${out}.unscaled`, { domain: MICROSOFT });
  writer.node("Mul", [`${out}.unscaled`, scale], out);
}

/**
 * Tokens as u8 with a scale each: scale = max|x| / 127, q = round(x / scale) + 128. A row of zeros
 * has scale 0 and whatever q: the product with the scale is 0 all the same. `like` has the shape.
 */
export function quantised(
  context: LoweringContext,
  name: string,
  like: Value,
  largest: Largest = largestOfAbs,
): Quantised {
  const { writer } = context;
  const scale = `${name}.u8.scale`;
  const q = context.once(`${name}.u8`, (to) => {
    const step = writer.constant("float.1/127", "float32", [], new Float32Array([1 / 127]));
    writer.node("Mul", [largest(context, name, to), step], scale);
    writer.node("QuantizeLinear", [name, scale, zeroPoints(context, like)], to, rowBlocks(like));
  });
  return { q, scale };
}

/** Emits max|x| of each row, [T, 1]. */
type Largest = (context: LoweringContext, name: string, to: string) => string;

const ROWS = { attributes: { keepdims: 1 } };

/** The form of fewest nodes: for few tokens. */
function largestOfAbs(context: LoweringContext, name: string, to: string): string {
  const { writer } = context;
  writer.node("Abs", [name], `${to}.abs`);
  return writer.node("ReduceMax", [`${to}.abs`, context.int64("int64.1", [1])], `${to}.max`, ROWS);
}

/** The form that writes nothing of x's size: for many tokens. */
export function largestOfEnds(context: LoweringContext, name: string, to: string): string {
  const { writer } = context;
  const axis = context.int64("int64.1", [1]);
  writer.node("ReduceMax", [name, axis], `${to}.highest`, ROWS);
  writer.node("ReduceMin", [name, axis], `${to}.lowest`, ROWS);
  writer.node("Neg", [`${to}.lowest`], `${to}.lowest.abs`);
  return writer.node("Max", [`${to}.highest`, `${to}.lowest.abs`], `${to}.max`);
}

/** A block as long as the row: the per-axis form is slower and wants the scales once more as [T]. */
export function rowBlocks({ shape }: Value): NodeOptions {
  return { attributes: { axis: 1, "block_size": Number(shape[1]) } };
}

/** 128 for each row of x, [T, 1], made once a step for each number of rows. */
export function zeroPoints(context: LoweringContext, x: Value): string {
  return context.once(`zeroPoints.${x.shape[0]}`, (to) => {
    const { writer } = context;
    writer.node("Shape", [context.name(x)], `${to}.rows`, { attributes: { start: 0, end: 1 } });
    const inputs = [`${to}.rows`, context.int64("int64.1", [1])];
    writer.node("Concat", inputs, `${to}.shape`, { attributes: { axis: 0 } });
    writer.node("Expand", [centre(writer), `${to}.shape`], to);
  });
}

/** Parameters one after the other: weights [d_out_i, d_in] become [Σ d_out_i, d_in]. */
export function joined(context: LoweringContext, values: readonly Value[]): Float32Array {
  return joinedArrays(values.map((value) => context.parameters.read(value.name)));
}

function joinedArrays(parts: readonly Float32Array[]): Float32Array {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** The same, read some rows at a time. */
export function joinedRows(
  context: LoweringContext,
  values: readonly Value[],
  columns: number,
): RowSource {
  const { parameters } = context;
  const counts = values.map(({ shape }) => Number(shape[0]));
  const rows = counts.reduce((sum, count) => sum + count, 0);
  const read = (first: number, count: number) => {
    let start = first;
    const parts: Float32Array[] = [];
    values.forEach(({ name }, i) => {
      const from = Math.max(0, start);
      const end = Math.min(counts[i], start + count);
      if (from < end) {
        parts.push(parameters.read(name, { rows: { first: from, count: end - from } }));
      }
      start -= counts[i];
    });
    return joinedArrays(parts);
  };
  return { rows, columns, read };
}
