/** Runs a small graph twice: by the naive evaluator, and lowered on the CPU. */
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import type { Graph, ParameterSource, Rows } from "../../src/graph/graph.ts";
import type { Value } from "../../src/graph/ops.ts";
import { lower, type LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import type { BlockSource } from "../../src/graph/quantise.ts";
import type { Device, DType, Tensor, TypedArrayOf } from "../../src/runtime/device.ts";

export const FLOAT32: LoweringPlan = {
  linear: () => "float32",
  gradient: () => "float32",
  embedding: "float32",
};

/** A seeded generator of normal numbers (Box and Muller over mulberry32). */
export function normal(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ state >>> 15, state | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

export function randomArray(count: number, seed: number, scale = 1): Float32Array {
  const next = normal(seed);
  return Float32Array.from({ length: count }, () => next() * scale);
}

/** Parameters of random numbers, the same for the same name. */
export class RandomParameters implements ParameterSource, BlockSource {
  readonly #made = new Map<string, Float32Array>();
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #widths: ReadonlyMap<string, number>;

  constructor(graph: Graph) {
    this.#widths = new Map(graph.parameters.map(({ name, shape }) => [name, Number(shape[1])]));
    this.#sizes = new Map(
      graph.parameters.map(({ name, shape }) => [name, size(shape.map(Number))]),
    );
  }

  read(name: string, { rows }: { readonly rows?: Rows } = {}): Float32Array {
    let data = this.#made.get(name);
    if (data === undefined) {
      data = randomArray(this.#sizes.get(name) ?? 0, this.#made.size + 17, 0.3);
      this.#made.set(name, data);
    }
    const width = this.#widths.get(name) ?? 1;
    return rows === undefined
      ? data
      : data.subarray(rows.first * width, (rows.first + rows.count) * width);
  }

  blocks(): undefined {
    return undefined;
  }
}

/** Runs the lowered graph; `updated` inputs are written in place in `given`. */
export async function runLowered(
  device: Device,
  graph: Graph,
  given: Readonly<Record<string, Evaluated>>,
  parameters: ParameterSource & BlockSource,
  plan: LoweringPlan,
  outputShapes: readonly (readonly number[])[],
): Promise<Float32Array[]> {
  const lowered = lower(graph, parameters, plan);
  const initializers = Object.fromEntries(
    await Array.fromAsync(
      lowered.weights,
      async ([name, { dtype, shape, make }]) => [name, device.tensor(dtype, shape, await make())],
    ),
  );
  using session = await device.session(lowered.model(), { initializers });
  const bound = Object.fromEntries(
    graph.inputs.map((value) => [value.name, tensorOf(device, value, given[value.name])]),
  );
  const made: Record<string, Tensor> = {};
  for (const { name } of graph.updated) made[`${name}.out`] = bound[name];
  const outputs = graph.outputs.map(({ name }, i) =>
    made[name] = device.tensor("float32", outputShapes[i])
  );
  using binding = session.bind(bound, made);
  await binding.run();
  for (const { name } of graph.updated) {
    given[name].data.set(bound[name].data as Float32Array);
  }
  return outputs.map(({ data }) => data as Float32Array);
}

/** The same graph by the evaluator, on copies of the inputs. */
export function runNaive(
  graph: Graph,
  given: Readonly<Record<string, Evaluated>>,
  parameters: ParameterSource,
): Evaluated[] {
  const copies = Object.fromEntries(
    Object.entries(given).map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]),
  );
  return evaluate(graph, copies, parameters);
}

/** The largest absolute difference. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  return a.length === b.length ? worst : Infinity;
}

export function size(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function tensorOf(device: Device, { dtype }: Value, { shape, data }: Evaluated): Tensor {
  return device.tensor(dtype, shape, convert(dtype, data));
}

function convert<T extends DType>(dtype: T, data: ArrayLike<number>): TypedArrayOf<T> {
  switch (dtype) {
    case "int64":
      return BigInt64Array.from(Array.from(data), BigInt) as TypedArrayOf<T>;
    case "int32":
      return Int32Array.from(data) as TypedArrayOf<T>;
    default:
      return Float32Array.from(data) as TypedArrayOf<T>;
  }
}
