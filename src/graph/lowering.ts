/**
 * From the graph of meaning to an ONNX model for ONNX Runtime's CPU kernels: one rule per operation,
 * in a table that is total. It decides how each operation is computed; `kernels.ts` says how a
 * linear is, `quantise.ts` makes the weights. It knows no session and no device memory.
 */
import type { Graph, Node, ParameterSource, Value } from "./graph.ts";
import { emitLinear, type LinearKernel } from "./kernels.ts";
import { MICROSOFT, OnnxWriter, type Weight } from "./onnx.ts";
import type { OpName, Ops } from "./ops.ts";
import { type BlockSource, quantiseRows } from "./quantise.ts";
import type { DType } from "../runtime/device.ts";

/** How a graph is to be computed. */
export interface LoweringPlan {
  /** The kernel of each linear, by the name of its first weight. */
  readonly linear: (weight: string) => LinearKernel;
  /** float32 rows, or int8 in blocks of 32 with a scale each. */
  readonly embedding: "float32" | "int8";
}

/** A model that ONNX Runtime compiles, and the weights it takes from memory. */
export interface Lowered {
  readonly model: Uint8Array;
  readonly weights: ReadonlyMap<string, Weight>;
}

/** Weights in device layout, made once and shared by every graph lowered from the same parameters. */
export type WeightStore = Map<string, Weight>;

/** What rules work with: the writer, names of values, and shared by-products. */
export class LoweringContext {
  readonly writer = new OnnxWriter();
  readonly used = new Map<string, Weight>();
  readonly #names = new Map<number, string>();

  constructor(
    readonly plan: LoweringPlan,
    readonly parameters: ParameterSource & Partial<BlockSource>,
    readonly store: WeightStore,
  ) {}

  /** The ONNX name of a value. */
  name(value: Value): string {
    return this.#names.get(value.id) ?? value.name;
  }

  rename(value: Value, name: string): void {
    this.#names.set(value.id, name);
  }

  /** A weight outside the model, made by `make` where the store lacks it. */
  weight(
    name: string,
    dtype: DType,
    shape: readonly number[],
    make: () => Weight["data"],
  ): string {
    let weight = this.store.get(name);
    if (weight === undefined) {
      weight = { dtype, shape, data: make() };
      this.store.set(name, weight);
    }
    this.used.set(name, weight);
    return this.writer.external(name, dtype, shape);
  }

  /** A parameter as it is, float32. */
  parameter(value: Value): string {
    const shape = value.shape.map(Number);
    return this.weight(value.name, "float32", shape, () => this.parameters.read(value.name));
  }

  /** Emits what `key` names once, and returns its name ever after. */
  once(key: string, emit: (name: string) => void): string {
    if (!this.#emitted.has(key)) {
      this.#emitted.add(key);
      emit(key);
    }
    return key;
  }
  readonly #emitted = new Set<string>();

  int64(name: string, data: readonly number[], shape: readonly number[] = [data.length]): string {
    return this.writer.constant(name, "int64", shape, BigInt64Array.from(data, BigInt));
  }
}

/** Lowers a graph. Outputs are the graph's own, then each updated input as `NAME.out`. */
export function lower(
  graph: Graph,
  parameters: ParameterSource & Partial<BlockSource>,
  plan: LoweringPlan,
  store: WeightStore,
): Lowered {
  const context = new LoweringContext(plan, parameters, store);
  const { writer } = context;
  for (const { name, dtype, shape } of graph.inputs) writer.input(name, dtype, shape);
  const done = new Set<Node>();
  graph.nodes.forEach((node, i) => {
    if (done.has(node)) return;
    const next = graph.nodes[i + 1];
    if (next !== undefined && fuseSkipNorm(context, node, next)) done.add(next);
    else lowerNode(context, node);
  });
  for (const value of graph.outputs) writer.output(context.name(value), value.dtype, value.shape);
  for (const { name, dtype, shape } of graph.updated) writer.output(`${name}.out`, dtype, shape);
  return { model: writer.finish("lembas"), weights: context.used };
}

type Rule<K extends OpName> = (context: LoweringContext, args: Ops[K], out: string) => void;

function lowerNode(context: LoweringContext, node: Node): void {
  const rule = RULES[node.op] as Rule<typeof node.op>;
  rule(context, node.args as never, context.name(node.out));
}

/** An addition whose sum is normalised next is one kernel. */
function fuseSkipNorm(context: LoweringContext, node: Node, next: Node): boolean {
  if (node.op !== "add" || next.op !== "rmsNorm") return false;
  if (next.args.x !== node.out || next.args.groups !== 1) return false;
  const { a, b } = node.args;
  const inputs = [context.name(a), context.name(b), context.parameter(next.args.gamma)];
  const outputs = [context.name(next.out), "", "", context.name(node.out)];
  context.writer.nodes("SkipSimplifiedLayerNormalization", inputs, outputs, {
    domain: MICROSOFT,
    attributes: { epsilon: { float: next.args.eps } },
  });
  return true;
}

const RULES: { readonly [K in OpName]: Rule<K> } = {
  embed(context, { ids, table }, out) {
    if (context.plan.embedding === "float32") {
      context.writer.node("Gather", [context.parameter(table), context.name(ids)], out);
    } else embedInt8(context, table, context.name(ids), out);
  },
  rmsNorm(context, { x, gamma, eps, groups }, out) {
    const { writer } = context;
    const attributes = { axis: -1, epsilon: { float: eps } };
    const norm = (from: string, to: string) =>
      writer.node("SimplifiedLayerNormalization", [from, context.parameter(gamma)], to, {
        attributes,
      });
    if (groups === 1) return void norm(context.name(x), out);
    const width = Number(gamma.shape[0]);
    const split = context.int64(`shape.heads.${groups}.${width}`, [-1, groups, width]);
    const joined = context.int64(`shape.joined.${groups * width}`, [-1, groups * width]);
    writer.node("Reshape", [context.name(x), split], `${out}.split`);
    norm(`${out}.split`, `${out}.normed`);
    writer.node("Reshape", [`${out}.normed`, joined], out);
  },
  linear(context, args, out) {
    emitLinear(context, args, out);
  },
  lotr(context, { x, y, a, cores, b, offsets, grid }, out) {
    const { writer } = context;
    const rank = Number(a.shape[1]);
    const joined = context.int64(`shape.joined.${b.length * rank}`, [-1, b.length * rank]);
    writer.node("MatMul", [context.name(x), context.parameter(a)], `${out}.u`);
    writer.node("Reshape", [`${out}.u`, gridShape(context, grid, rank)], `${out}.u3`);
    writer.node("MatMul", [`${out}.u3`, context.name(cores)], `${out}.v3`);
    writer.node("Reshape", [`${out}.v3`, joined], `${out}.v`);
    const factor = blockDiagonal(context, b, offsets, Number(y.shape[1]));
    writer.node("Gemm", [`${out}.v`, factor, context.name(y)], out);
  },
  attention(context, args, out) {
    const { writer } = context;
    const { heads, kvHeads, headDim, window } = args;
    const shape = gridShape(context, args.grid, (heads + 2 * kvHeads) * headDim);
    const joined = context.int64(`shape.joined.${heads * headDim}`, [-1, heads * headDim]);
    writer.node("Reshape", [context.name(args.qkv), shape], `${out}.qkv3`);
    const inputs = [
      ...[`${out}.qkv3`, "", "", context.name(args.keys), context.name(args.values)],
      ...[context.name(args.lengths), context.name(args.total)],
      ...[context.parameter(args.cos), context.parameter(args.sin)],
    ];
    const outputs = [`${out}.3`, `${args.keys.name}.out`, `${args.values.name}.out`];
    writer.nodes("GroupQueryAttention", inputs, outputs, {
      domain: MICROSOFT,
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: 1,
        scale: { float: args.scale },
        ...(window === undefined ? {} : { local_window_size: window }),
      },
    });
    writer.node("Reshape", [`${out}.3`, joined], out);
  },
  add(context, { a, b }, out) {
    context.writer.node("Add", [context.name(a), context.name(b)], out);
  },
  swiglu(context, { x }, out) {
    const { writer } = context;
    const attributes = { axis: 1, "num_outputs": 2 };
    writer.nodes("Split", [context.name(x)], [`${out}.gate`, `${out}.up`], { attributes });
    writer.node("QuickGelu", [`${out}.gate`], `${out}.silu`, {
      domain: MICROSOFT,
      attributes: { alpha: { float: 1 } },
    });
    writer.node("Mul", [`${out}.silu`, `${out}.up`], out);
  },
  columns(context, { x, start, size }, out) {
    const { writer } = context;
    const from = context.int64(`int64.${start}`, [start]);
    const to = context.int64(`int64.${start + size}`, [start + size]);
    writer.node("Slice", [context.name(x), from, to, context.int64("int64.1", [1])], out);
  },
  concat(context, { parts }, out) {
    const inputs = parts.map((part) => context.name(part));
    context.writer.node("Concat", inputs, out, { attributes: { axis: 1 } });
  },
  rows(context, { x, index }, out) {
    context.writer.node("Gather", [context.name(x), context.name(index)], out);
  },
  channelMax(context, { x }, out) {
    const axis = context.int64("int64.0", [0]);
    const attributes = { keepdims: 0 };
    context.writer.node("Abs", [context.name(x)], `${out}.abs`);
    context.writer.node("ReduceMax", [`${out}.abs`, axis], out, { attributes });
  },
};

/** The shape [batch, time, width], computed once a step. */
function gridShape(context: LoweringContext, grid: Value, width: number): string {
  return context.once(`shape.grid.${width}`, (name) => {
    const inputs = [context.name(grid), context.int64(`int64.${width}`, [width])];
    context.writer.node("Concat", inputs, name, { attributes: { axis: 0 } });
  });
}

/** All B of a site as one matrix [m·r, d_out]: block m in rows m·r …, columns offset_m …. */
function blockDiagonal(
  context: LoweringContext,
  b: readonly Value[],
  offsets: readonly number[],
  width: number,
): string {
  const rank = Number(b[0]?.shape[0]);
  const name = `${b.map((factor) => factor.name).join("|")}:block`;
  return context.weight(name, "float32", [b.length * rank, width], () => {
    const block = new Float32Array(b.length * rank * width);
    b.forEach((factor, m) => {
      const data = context.parameters.read(factor.name);
      const columns = Number(factor.shape[1]);
      for (let i = 0; i < rank; i++) {
        const row = data.subarray(i * columns, (i + 1) * columns);
        block.set(row, (m * rank + i) * width + (offsets[m] ?? 0));
      }
    });
    return block;
  });
}

/** Rows of an int8 table with a scale for every 32 numbers: exact for a Q8_0 checkpoint. */
function embedInt8(context: LoweringContext, table: Value, ids: string, out: string): void {
  const { writer } = context;
  const [rows, width] = table.shape.map(Number);
  const block = 32;
  const made = () => quantiseRows(context.parameters.read(table.name), block);
  let rowsMade: ReturnType<typeof made> | undefined;
  const quantised = () => rowsMade ??= made();
  const q = context.weight(`${table.name}:q8`, "int8", [rows, width], () => quantised().q);
  const scales = context.weight(
    `${table.name}:q8.scales`,
    "float32",
    [rows, width / block],
    () => quantised().scales,
  );
  writer.node("Gather", [q, ids], `${out}.q`);
  writer.node("Gather", [scales, ids], `${out}.scales`);
  writer.node("DequantizeLinear", [`${out}.q`, `${out}.scales`], out, {
    attributes: { axis: 1, block_size: block },
  });
}
