/**
 * Reverse-mode differentiation: walks a graph's nodes backwards from seeded outputs and adds the
 * nodes that compute gradients by the wanted values, and no others: what does not lead from a
 * wanted value to a seed is left alone.
 */
import { argumentsOf, type GraphBuilder, type Node } from "./graph.ts";
import type { OpName, Ops, Value } from "./ops.ts";
import { PULLBACKS, type Pulling } from "./pullbacks.ts";

/** Gradients, and where each node's share of them was computed. */
export interface Differentiated {
  /** The gradient by each wanted value, in its shape; undefined where no seed depends on it. */
  gradient(wanted: Value): Value | undefined;
  /** Nodes in the graph when the pullback of the node that makes `value` was done. */
  boundary(value: Value): number;
}

/**
 * Appends to `graph` what computes `Σ seed · output` differentiated by the wanted values.
 *
 * @throws {TypeError} for a wanted value behind an operation that has no gradient.
 * @example
 * ```ts
 * import { GraphBuilder } from "./graph.ts";
 * import { differentiate } from "./autodiff.ts";
 * const graph = new GraphBuilder();
 * const x = graph.input("x", "float32", ["tokens", 4]);
 * const y = graph.add("glu", { x }, "y");
 * const dy = graph.input("dy", "float32", ["tokens", 2]);
 * const dx = differentiate(graph, new Map([[y, dy]]), [x]).gradient(x);
 * console.assert(dx?.shape[1] === 4);
 * ```
 */
export function differentiate(
  graph: GraphBuilder,
  seeds: ReadonlyMap<Value, Value>,
  wanted: readonly Value[],
): Differentiated {
  const nodes = [...graph.nodes];
  const active = dependents(nodes, wanted);
  const gradients = new Map<number, Value>();
  const boundaries = new Map<number, number>();
  const give = (argument: Value, gradient: Value) => {
    const sum = gradients.get(argument.id);
    const name = `d.${argument.name}.sum${graph.nodes.length}`;
    const total = sum === undefined ? gradient : graph.add("add", { a: sum, b: gradient }, name);
    gradients.set(argument.id, total);
  };
  for (const [output, seed] of seeds) give(output, seed);
  for (const node of nodes.reverse()) {
    const dy = gradients.get(node.out.id);
    const wants = (argument: Value) => active.has(argument.id);
    // the operation that makes a wanted value may have no pullback: none is asked for
    if (dy !== undefined && argumentsOf(node).some(wants)) {
      pull(node, { graph, out: node.out, dy, wants, give });
    }
    boundaries.set(node.out.id, graph.nodes.length);
  }
  return {
    gradient: (value) => gradients.get(value.id),
    boundary: (value) => boundaries.get(value.id) ?? graph.nodes.length,
  };
}

function pull(node: Node, pulling: Pulling): void {
  const rule = PULLBACKS[node.op] as (args: Ops[OpName], pulling: Pulling) => void;
  rule(node.args, pulling);
}

/** Ids of the wanted values and of all that is computed from them. */
function dependents(nodes: readonly Node[], wanted: readonly Value[]): ReadonlySet<number> {
  const active = new Set(wanted.map(({ id }) => id));
  for (const node of nodes) {
    if (argumentsOf(node).some(({ id }) => active.has(id))) active.add(node.out.id);
  }
  return active;
}
