/**
 * Cutting graphs into pieces: run in order, they compute what the graph does, and hand on no more than
 * later pieces read.
 */
import { assertEquals, assertLess } from "@std/assert";
import { differentiate } from "../../src/graph/autodiff.ts";
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import { argumentsOf, type Graph, GraphBuilder } from "../../src/graph/graph.ts";
import { halves, segments, weightCount } from "../../src/graph/segments.ts";
import { normal } from "./run.ts";
import { coresOf, decoder } from "./small_decoder.ts";

const NO_PARAMETERS = {
  read(name: string): never {
    throw new TypeError(`internal: ${name} is no input`);
  },
};

/** A decoder's loss and core gradients, and where the backward pass leaves each layer. */
function differentiated() {
  const made = decoder([true, false, true]);
  const { graph, given } = made.sketch;
  const forward = graph.nodes.length;
  const seed = graph.input("seed", "float32", made.loss.shape);
  given.seed = { shape: [5], data: Float64Array.of(1, 0.5, 2, 1, 0.25) };
  const cores = coresOf(made);
  const { gradient, boundary } = differentiate(graph, new Map([[made.loss, seed]]), cores);
  const outputs = [made.loss, ...cores.flatMap((core) => gradient(core) ?? [])];
  const layers = made.layers.map(({ output }) => boundary(output)).toReversed();
  return { whole: graph.finish(outputs), given, cuts: [forward, ...layers] };
}

/** Runs pieces one after the other, by nothing but their inputs and outputs. */
function runPieces(pieces: readonly Graph[], given: Readonly<Record<string, Evaluated>>) {
  const values: Record<string, Evaluated> = { ...given };
  for (const piece of pieces) {
    const bound = Object.fromEntries(piece.inputs.map(({ name }) => [name, values[name]]));
    evaluate(piece, bound, NO_PARAMETERS).forEach((value, i) => {
      values[piece.outputs[i].name] = value;
    });
  }
  return values;
}

Deno.test("pieces cut between layers, run in order, compute what the whole graph does", () => {
  const { whole, given, cuts } = differentiated();
  const pieces = segments(whole, cuts);
  assertEquals(pieces.length, cuts.length + 1);
  const values = runPieces(pieces, given);
  const expected = evaluate(whole, given, NO_PARAMETERS);
  whole.outputs.forEach(({ name }, i) => assertEquals(values[name], expected[i]));
});

Deno.test("pieces cut anywhere compute the same, hand on what is read and read what was made", () => {
  const { whole, given } = differentiated();
  const expected = evaluate(whole, given, NO_PARAMETERS);
  for (let seed = 1; seed <= 20; seed++) {
    const next = normal(seed);
    const cuts = Array.from({ length: 4 }, () => Math.floor(Math.abs(next()) * 30))
      .map((cut) => Math.min(cut, whole.nodes.length)).toSorted((a, b) => a - b);
    const pieces = segments(whole, cuts);
    assertEquals(pieces.flatMap(({ nodes }) => nodes), whole.nodes);
    const values = runPieces(pieces, given);
    whole.outputs.forEach(({ name }, i) => assertEquals(values[name], expected[i], `${cuts}`));
    pieces.forEach((piece, i) => {
      const later = pieces.slice(i + 1).flatMap(({ nodes }) => nodes.flatMap(argumentsOf));
      const read = new Set([...later, ...whole.outputs].map(({ id }) => id));
      assertEquals(piece.outputs.every(({ id }) => read.has(id)), true, `${cuts}`);
      const used = new Set(piece.nodes.flatMap(argumentsOf).map(({ id }) => id));
      assertEquals(piece.inputs.every(({ id }) => used.has(id)), true, `${cuts}`);
    });
  }
});

Deno.test("without cuts a graph is one piece, and only its own outputs leave it", () => {
  const { whole } = differentiated();
  const [piece, ...rest] = segments(whole, []);
  assertEquals(rest, []);
  assertEquals(piece.nodes, whole.nodes);
  const names = (values: Graph["outputs"]) => values.map(({ name }) => name).toSorted();
  assertEquals(names(piece.outputs), names(whole.outputs));
});

Deno.test("halves multiply by about as many weights each, and one value crosses between them", () => {
  const made = decoder([true, false, true, false]);
  const whole = made.sketch.graph.finish([made.loss]);
  const [first, second, ...rest] = halves(whole);
  assertEquals(rest, []);
  const given = new Set(whole.inputs.map(({ name }) => name));
  assertEquals(second.inputs.filter(({ name }) => !given.has(name)), first.outputs);
  assertEquals(first.outputs.length, 1);
  const share = weightCount(first) / weightCount(whole);
  assertLess(Math.abs(share - 0.5), 0.2);
  const values = runPieces([first, second], made.sketch.given);
  const [loss] = evaluate(whole, made.sketch.given, NO_PARAMETERS);
  assertEquals(values[made.loss.name], loss);
});

Deno.test("a graph of one weight has no halves", () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", 2]);
  const weight = graph.parameter("w", [3, 2]);
  const whole = graph.finish([graph.add("linear", { x, weights: [weight], biases: [] }, "y")]);
  assertEquals(halves(whole), [whole]);
});
