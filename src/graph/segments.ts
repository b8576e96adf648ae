/**
 * Cuts a graph into pieces that run one after the other, so that a long computation can give the
 * device away in between.
 */
import { argumentsOf, type Graph, type Node } from "./graph.ts";
import type { Value } from "./ops.ts";

/**
 * Pieces of `graph` between the cuts (numbers of nodes before each, rising). A piece's inputs are
 * the graph's and what earlier pieces made; its outputs what later ones or the graph's caller want.
 * Running the pieces in order computes what the graph does.
 */
export function segments(graph: Graph, cuts: readonly number[]): Graph[] {
  const bounds = [0, ...cuts, graph.nodes.length];
  const pieces = bounds.slice(1).map((end, i) => graph.nodes.slice(bounds[i], end));
  const lastUse = new Map<number, number>();
  pieces.forEach((nodes, i) => {
    for (const node of nodes) for (const { id } of argumentsOf(node)) lastUse.set(id, i);
  });
  for (const { id } of graph.outputs) lastUse.set(id, Infinity);
  return pieces.map((nodes, i) => piece(nodes, ({ id }) => (lastUse.get(id) ?? -1) > i, graph));
}

/**
 * A graph in two pieces that multiply by about as many weights, of which one value alone crosses from
 * the first to the second; the graph as it is where there is no such place.
 */
export function halves(graph: Graph): readonly Graph[] {
  const { nodes, outputs } = graph;
  const lastUse = new Map<number, number>();
  nodes.forEach((node, i) => {
    for (const { id } of argumentsOf(node)) lastUse.set(id, i);
  });
  for (const { id } of outputs) lastUse.set(id, nodes.length);
  const half = weightCount(graph) / 2;
  const crossing = new Set<number>();
  let before = 0;
  let best = { cut: 0, away: half };
  nodes.forEach((node, i) => {
    before += weightsOf(node);
    crossing.add(node.out.id);
    for (const id of crossing) if ((lastUse.get(id) ?? -1) <= i) crossing.delete(id);
    const away = Math.abs(before - half);
    if (crossing.size === 1 && away < best.away) best = { cut: i + 1, away };
  });
  return best.cut === 0 ? [graph] : segments(graph, [best.cut]);
}

/** Numbers in the weights that a node multiplies by. */
function weightsOf(node: Node): number {
  if (node.op !== "linear") return 0;
  return node.args.weights.reduce((sum, { shape }) => sum + Number(shape[0]) * Number(shape[1]), 0);
}

/** Numbers in all weights that a graph multiplies by. */
export function weightCount({ nodes }: Graph): number {
  return nodes.reduce((sum, node) => sum + weightsOf(node), 0);
}

function piece(nodes: readonly Node[], leaves: (value: Value) => boolean, graph: Graph): Graph {
  const made = new Set(nodes.map(({ out }) => out.id));
  const read = new Map<number, Value>();
  for (const value of nodes.flatMap(argumentsOf)) {
    if (!made.has(value.id)) read.set(value.id, value);
  }
  const outside = [...read.values()];
  return {
    inputs: outside.filter(({ kind }) => kind !== "parameter"),
    parameters: outside.filter(({ kind }) => kind === "parameter"),
    nodes,
    outputs: nodes.map(({ out }) => out).filter(leaves),
    updated: graph.updated.filter(({ id }) => read.has(id)),
  };
}
