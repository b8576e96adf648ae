/**
 * Finite differences on the naive evaluator, to hold `differentiate` against. Everything that is
 * differentiated by is an input in float64: parameters are read in float32, whose steps would drown
 * the differences.
 */
import { differentiate } from "../../src/graph/autodiff.ts";
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import { type Graph, GraphBuilder } from "../../src/graph/graph.ts";
import type { Shape, Value } from "../../src/graph/ops.ts";
import { normal, size } from "./run.ts";

/** Rows that share: tokens each sees before its own, and the rows that hold them. */
export interface Sharing {
  readonly time: number;
  readonly offsets: readonly number[];
  readonly context: readonly (readonly number[])[];
  readonly window: number | undefined;
}

/** Nothing shared; one row seen by two; chains of rows, the last not full, with and without window. */
export const SHARING: readonly Sharing[] = [
  { time: 4, offsets: [0, 0], context: [[], []], window: undefined },
  { time: 4, offsets: [0, 0, 0], context: [[1], [0], [2]], window: undefined },
  { time: 4, offsets: [4, 2, 0], context: [[2], [2], [0]], window: undefined },
  {
    time: 3,
    offsets: [5, 5, 0, 0, 3],
    context: [[3, 4], [3, 4], [0, 0], [0, 0], [3, 0]],
    window: undefined,
  },
  { time: 3, offsets: [6, 4, 0, 3], context: [[2, 3], [2, 3], [0, 0], [2, 0]], window: 4 },
];

/** A graph builder that makes up a float64 value for every input it is asked for. */
export class Sketch {
  readonly graph = new GraphBuilder();
  readonly given: Record<string, Evaluated> = {};
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = normal(seed);
  }

  /** An input of normal numbers; `run` is its shape in this run where names stand in `shape`. */
  floats(name: string, shape: Shape, run: readonly number[] = shape.map(Number), scale = 1): Value {
    const data = Float64Array.from({ length: size(run) }, () => this.#next() * scale);
    this.given[name] = { shape: run, data };
    return this.graph.input(name, "float32", shape);
  }

  /** Tokens of normal numbers. */
  tokens(name: string, count: number, width: number): Value {
    return this.floats(name, ["tokens", width], [count, width]);
  }

  ints(name: string, values: readonly number[], dim: string | number = "rows"): Value {
    this.given[name] = { shape: [values.length], data: Int32Array.from(values) };
    return this.graph.input(name, "int32", [dim]);
  }

  /** Rows of integers, by default [batch, contexts]. */
  table(
    name: string,
    rows: readonly (readonly number[])[],
    dims: Shape = ["batch", "contexts"],
  ): Value {
    const shape = [rows.length, rows[0]?.length ?? 0];
    this.given[name] = { shape, data: Int32Array.from(rows.flat()) };
    return this.graph.input(name, "int32", dims);
  }

  grid(batch: number, time: number): Value {
    this.given.grid = { shape: [2], data: Int32Array.of(batch, time) };
    return this.graph.input("grid", "int64", [2]);
  }

  /** cos and sin of a rotation by ever slower angles, [positions, headDim / 2]. */
  rotation(positions: number, headDim: number): { readonly cos: Value; readonly sin: Value } {
    const half = headDim / 2;
    const table = (name: string, f: (angle: number) => number) => {
      const data = Float64Array.from(
        { length: positions * half },
        (_, i) => f(Math.floor(i / half) * 10 ** (-(i % half) / half)),
      );
      this.given[name] = { shape: [positions, half], data };
      return this.graph.input(name, "float32", [positions, half]);
    };
    return { cos: table("cos", Math.cos), sin: table("sin", Math.sin) };
  }
}

/** What was compared. */
export interface Comparison {
  readonly wanted: Value;
  /** Largest difference over the root mean square of the differences' own gradient. */
  readonly error: number;
}

/**
 * The gradients of `Σ seed · out`, seeds random, by each wanted input: by `differentiate`, and by
 * central differences in up to `samples` of its numbers.
 */
export function compare(
  { graph, given }: Sketch,
  out: Value,
  wanted: readonly Value[],
  samples = 64,
): Comparison[] {
  const forward = frozen(graph.finish([out]));
  const [{ shape }] = evaluate(forward, given, NO_PARAMETERS);
  const next = normal(4711);
  const seed = { shape, data: Float64Array.from({ length: size(shape) }, next) };
  const dy = graph.input("seed", "float32", out.shape);
  const outputs = gradientsOf(graph, out, dy, wanted);
  const gradients = evaluate(graph.finish(outputs), { ...given, seed }, NO_PARAMETERS);
  const scalar = () => dot(evaluate(forward, given, NO_PARAMETERS)[0], seed);
  return wanted.map((value, i) => ({
    wanted: value,
    error: errorOf(given[value.name], gradients[i], scalar, samples),
  }));
}

/** Appends the gradients of `Σ dy · out` by each of the wanted values. */
export function gradientsOf(
  graph: GraphBuilder,
  out: Value,
  dy: Value,
  wanted: readonly Value[],
): Value[] {
  const { gradient } = differentiate(graph, new Map([[out, dy]]), wanted);
  return wanted.map((value) => {
    const made = gradient(value);
    if (made === undefined) throw new TypeError(`${out.name} does not depend on ${value.name}`);
    return made;
  });
}

/** Relative step: its square, the truncation, and 1e-16 over it, the rounding, are both ~1e-10. */
const STEP = 1e-5;

function errorOf(
  at: Evaluated,
  gradient: Evaluated,
  scalar: () => number,
  samples: number,
): number {
  if (gradient.data.length !== at.data.length) return Infinity;
  const stride = Math.max(1, Math.floor(at.data.length / samples));
  let [worst, squares, count] = [0, 0, 0];
  for (let i = 0; i < at.data.length; i += stride) {
    const kept = at.data[i];
    const values = [1, -1].map((sign) => {
      at.data[i] = kept + sign * STEP;
      return scalar();
    });
    at.data[i] = kept;
    const difference = (values[0] - values[1]) / (2 * STEP);
    worst = Math.max(worst, Math.abs(difference - gradient.data[i]));
    squares += difference ** 2;
    count++;
  }
  return worst / Math.sqrt(squares / count);
}

function dot(a: Evaluated, b: Evaluated): number {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += a.data[i] * b.data[i];
  return sum;
}

/** The graph as it is now: a builder's own lists grow. */
function frozen(graph: Graph): Graph {
  return { ...graph, inputs: [...graph.inputs], nodes: [...graph.nodes] };
}

const NO_PARAMETERS = {
  read(name: string): never {
    throw new TypeError(`internal: ${name} would be read in float32`);
  },
};
