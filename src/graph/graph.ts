/**
 * The graph of a model: nodes of operations in order, and the builder that checks each node against
 * its operation's shape rule as it is added. How a node is computed is in `lowering/` (for ONNX
 * Runtime) and `reference/` (the tests' oracle).
 */
import type { DType } from "../runtime/device.ts";
import type { OpName, Ops, Shape, Value } from "./ops.ts";
import { sameShape, SHAPES, showShape } from "./shapes.ts";

/** One operation: its arguments by name, and the value it makes. */
export type Node = {
  readonly [K in OpName]: { readonly op: K; readonly args: Ops[K]; readonly out: Value };
}[OpName];

/** The values that a node reads. */
export function argumentsOf(node: Node): Value[] {
  return Object.values(node.args as Record<string, unknown>).flat().filter(isValue);
}

function isValue(argument: unknown): argument is Value {
  return typeof argument === "object" && argument !== null && "id" in argument;
}

/** A finished graph: nodes in an order in which each one's inputs come before it. */
export interface Graph {
  readonly inputs: readonly Value[];
  readonly parameters: readonly Value[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly Value[];
  /** Inputs that nodes write to in place (keys and values): present as outputs under the same memory. */
  readonly updated: readonly Value[];
}

/** Rows of a parameter's first dimension. */
export interface Rows {
  readonly first: number;
  readonly count: number;
}

/** Where the numbers of parameters come from, by name, in the parameter's own shape. */
export interface ParameterSource {
  /** A parameter, or some of its rows. */
  read(name: string, options?: { readonly rows?: Rows }): Float32Array;
}

/** Builds a graph, node by node. */
export class GraphBuilder {
  readonly #inputs: Value[] = [];
  readonly #parameters = new Map<string, Value>();
  readonly #nodes: Node[] = [];
  readonly #updated: Value[] = [];
  #count = 0;

  /** A value given at each run. */
  input(name: string, dtype: DType, shape: Shape): Value {
    const value = this.#value(name, dtype, shape, "input");
    this.#inputs.push(value);
    return value;
  }

  /** An input that the graph also writes, in place. */
  state(name: string, dtype: DType, shape: Shape): Value {
    const value = this.input(name, dtype, shape);
    this.#updated.push(value);
    return value;
  }

  /**
   * A constant of the model, float32. The same name gives the same value.
   * @throws {TypeError} where the name was used with another shape.
   */
  parameter(name: string, shape: readonly number[]): Value {
    const known = this.#parameters.get(name);
    if (known === undefined) {
      const value = this.#value(name, "float32", shape, "parameter");
      this.#parameters.set(name, value);
      return value;
    }
    if (!sameShape(known.shape, shape)) {
      throw new TypeError(
        `Cannot use parameter ${name} as ${showShape(shape)}: it is ${showShape(known.shape)}`,
      );
    }
    return known;
  }

  /**
   * Adds an operation.
   * @throws {TypeError} naming the operation and the shapes that do not fit.
   */
  add<K extends OpName>(op: K, args: Ops[K], name: string): Value {
    const { dtype, shape } = SHAPES[op](args);
    const out = this.#value(name, dtype, shape, "result");
    this.#nodes.push({ op, args, out } as Node);
    return out;
  }

  get inputs(): readonly Value[] {
    return this.#inputs;
  }

  /** What was added so far, in order. */
  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  finish(outputs: readonly Value[]): Graph {
    return {
      inputs: this.#inputs,
      parameters: [...this.#parameters.values()],
      nodes: this.#nodes,
      outputs,
      updated: this.#updated,
    };
  }

  #value(name: string, dtype: DType, shape: Shape, kind: Value["kind"]): Value {
    return { id: this.#count++, name, dtype, shape, kind };
  }
}
