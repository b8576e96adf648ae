/**
 * The walk that differentiates: a whole decoder against central differences, that nothing is
 * computed which nobody wants, and what is said of values without a gradient. Each operation's own
 * pullback is `pullbacks_test.ts`'.
 */
import { assertEquals, assertLess, assertMatch, assertStrictEquals } from "@std/assert";
import { differentiate } from "../../src/graph/autodiff.ts";
import { argumentsOf } from "../../src/graph/graph.ts";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import type { Value } from "../../src/graph/ops.ts";
import { compare, Sketch } from "./differences.ts";
import { coresOf, type Decoder, decoder, WIDTH } from "./small_decoder.ts";

/** As in `pullbacks_test.ts`; a decoder's third derivatives are larger. */
const TOLERANCE = 1e-6;

/** Names of the operations that differentiating adds, in order. */
function added({ sketch: { graph }, loss }: Decoder, wanted: readonly Value[]): string[] {
  const before = graph.nodes.length;
  const seed = graph.input("seed", "float32", loss.shape);
  differentiate(graph, new Map([[loss, seed]]), wanted);
  return graph.nodes.slice(before).map(({ op }) => op);
}

function tally(ops: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const op of ops) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}

Deno.test("a decoder's gradients by cores, shared factors, weights and inputs match finite differences", () => {
  const made = decoder([true, true]);
  const { sketch, loss, factors, layers, embedded, head } = made;
  const wanted = [
    ...[...coresOf(made), factors.a, ...factors.b],
    ...layers.flatMap(({ weights, down }) => [...weights, down]),
    ...[embedded, head],
  ];
  for (const { wanted: { name }, error } of compare(sketch, loss, wanted)) {
    assertLess(error, TOLERANCE, name);
  }
});

Deno.test("only cores wanted: input gradients down to the first adapted layer, nothing below it", () => {
  const made = decoder([false, true, false, true]);
  const ops = tally(added(made, coresOf(made)));
  assertEquals(ops, {
    // The head and layers 3 to 1 each with down, gate and up, and o; qkv of layers 3 and 2 only.
    ...{ nllGrad: 1, linearGrad: 1 + 3 * 3 + 2, scatterRows: 1 },
    // The last norm; the second norm of layers 3 to 1; the first of layers 3 and 2.
    ...{ rmsNormGrad: 1 + 3 + 2, gluGrad: 3, causalAttentionGrad: 3 },
    // Two residual sums in layers 3 and 2, one in layer 1; x of layer 3's branch adds once more.
    add: 2 * 2 + 1 + 1,
    // Both layers' dG; only layer 3's goes on to x.
    ...{ lotrGrad: 2, project: 2, coreGrad: 2, coreProductGrad: 1, projectGrad: 1 },
  });
});

Deno.test("frozen weights get no gradient, and a wanted one does not bring its neighbours", () => {
  const made = decoder([false]);
  const [, k] = made.layers[0].weights;
  const ops = added(made, [k]);
  assertEquals(ops.filter((op) => op === "outer").length, 1);
  assertEquals(ops.slice(-2), ["columns", "outer"]);
});

Deno.test("nothing is computed for values that no seed depends on", () => {
  const { sketch, loss } = decoder([true]);
  const stranger = sketch.tokens("stranger", 2, 6);
  const aside = sketch.graph.add("glu", { x: stranger }, "aside");
  const before = sketch.graph.nodes.length;
  const seed = sketch.graph.input("seed", "float32", loss.shape);
  const { gradient } = differentiate(sketch.graph, new Map([[loss, seed]]), [stranger]);
  assertEquals([gradient(stranger), gradient(aside)], [undefined, undefined]);
  assertEquals(sketch.graph.nodes.length, before);
});

Deno.test("a gradient may be wanted by a value on the way, whatever made it", () => {
  const sketch = new Sketch(1);
  const { graph, given } = sketch;
  const table = sketch.floats("table", [5, 4]);
  const embedded = graph.add("embed", { ids: sketch.ints("ids", [3, 0]), table }, "embedded");
  const y = graph.add("glu", { x: embedded }, "y");
  const seed = sketch.tokens("seed", 2, 2);
  const gradient = differentiate(graph, new Map([[y, seed]]), [embedded]).gradient(embedded);
  assertEquals(graph.nodes.at(-1)?.op, "gluGrad");
  assertStrictEquals(gradient, graph.nodes.at(-1)?.out);
  const [{ shape }] = evaluate(graph.finish([graph.nodes[2].out]), given, { read: () => fail() });
  assertEquals(shape, [2, 4]);
});

function fail(): never {
  throw new TypeError("no parameters here");
}

Deno.test("a value that is its own seed gets the seed, and seeds of several outputs add up", () => {
  const sketch = new Sketch(1);
  const { graph, given } = sketch;
  const x = sketch.tokens("x", 3, 4);
  const y = graph.add("add", { a: x, b: x }, "y");
  const z = graph.add("columns", { x: y, start: 0, size: 4 }, "z");
  const [dx, dy, dz] = ["dx", "dy", "dz"].map((name) => sketch.tokens(name, 3, 4));
  const seeds = new Map([[x, dx], [y, dy], [z, dz]]);
  const gradient = differentiate(graph, seeds, [x]).gradient(x);
  if (gradient === undefined) throw new TypeError("x has no gradient");
  const [{ data }] = evaluate(graph.finish([gradient]), given, { read: () => fail() });
  const wanted = Float64Array.from(
    given.dx.data,
    (value, i) => value + 2 * (given.dy.data[i] + given.dz.data[i]),
  );
  assertLess(Math.max(...data.map((value, i) => Math.abs(value - wanted[i]))), 1e-12);
});

Deno.test("every value has its own name, though layers share factors and sums share terms", () => {
  const made = decoder([true, true, true]);
  const { graph } = made.sketch;
  const { factors, layers, embedded } = made;
  const weights = layers.flatMap((layer) => layer.weights);
  added(made, [...coresOf(made), factors.a, ...factors.b, ...weights, embedded]);
  const [a, b] = ["a", "b"].map((name) => graph.add("add", { a: embedded, b: embedded }, name));
  const seed = graph.input("seed2", "float32", ["tokens", WIDTH]);
  differentiate(graph, new Map([[a, seed], [b, seed]]), [embedded]);
  const names = graph.nodes.map(({ out }) => out.name);
  assertEquals(names.length, new Set(names).size);
});

Deno.test("boundaries cut the backward pass where each layer's share of it ends", () => {
  const made = decoder([true, true, true]);
  const { sketch: { graph }, loss, layers } = made;
  const start = graph.nodes.length;
  const seed = graph.input("seed", "float32", loss.shape);
  const { boundary } = differentiate(graph, new Map([[loss, seed]]), coresOf(made));
  const cuts = layers.map(({ output }) => boundary(output));
  assertEquals(cuts.toSorted((a, b) => b - a), cuts);
  assertLess(start, cuts[2]);
  const made2 = graph.nodes.slice(start);
  made2.forEach((node, i) => {
    for (const argument of argumentsOf(node)) {
      const at = made2.findIndex(({ out }) => out === argument);
      assertLess(at, i, `${node.out.name} reads ${argument.name}`);
    }
  });
  // What lies between the cuts of two layers computes the upper one's gradients.
  for (const layer of [1, 2]) {
    const between = graph.nodes.slice(cuts[layer], cuts[layer - 1]);
    const attention = between.filter(({ op }) => op === "causalAttentionGrad");
    assertEquals(attention.length, 1);
    assertMatch(attention[0].out.name, new RegExp(`l${layer}\\.`));
  }
});
