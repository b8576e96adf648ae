/**
 * Cuts a graph into pieces that run one after the other, so that a long computation can give the
 * device away in between.
 */
import { argumentsOf } from "./autodiff.ts";
import type { Graph, Node } from "./graph.ts";
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
