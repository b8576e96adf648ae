/**
 * Encoders' operations and their pullbacks, lowered to ONNX Runtime's CPU kernels, against the naive
 * evaluator. Tolerance as in `ops_test.ts`: 1e-5 of the root mean square.
 */
import { assertLess } from "@std/assert";
import { GraphBuilder } from "../../src/graph/graph.ts";
import { both, floats, type Inputs, ints, relative } from "./pairs.ts";

const ROUNDING = 1e-5;

Deno.test("layerNorm, alone and behind an addition, and its pullback", async () => {
  for (const [tokens, width] of [[1, 16], [7, 384]]) {
    const graph = new GraphBuilder();
    const [a, b, dy] = ["a", "b", "dy"].map((name) =>
      graph.input(name, "float32", ["tokens", width])
    );
    const [gamma, beta] = ["gamma", "beta"].map((name) => graph.parameter(name, [width]));
    const eps = 1e-12;
    const alone = graph.add("layerNorm", { x: a, gamma, beta, eps }, "alone");
    const sum = graph.add("add", { a, b }, "sum");
    const behind = graph.add("layerNorm", { x: sum, gamma, beta, eps }, "behind");
    const back = graph.add("layerNormGrad", { x: a, gamma, dy, eps }, "back");
    const given = Object.fromEntries(
      ["a", "b", "dy"].map((name, seed) => [name, floats([tokens, width], seed)]),
    );
    for (const pair of await both(graph.finish([alone, behind, back]), given)) {
      assertLess(relative(pair), ROUNDING);
    }
  }
});

Deno.test("a sum that is read again is not swallowed by the norm behind it", async () => {
  const graph = new GraphBuilder();
  const [a, b] = ["a", "b"].map((name) => graph.input(name, "float32", ["tokens", 32]));
  const [gamma, beta] = ["gamma", "beta"].map((name) => graph.parameter(name, [32]));
  const sum = graph.add("add", { a, b }, "sum");
  const norm = graph.add("layerNorm", { x: sum, gamma, beta, eps: 1e-5 }, "norm");
  const again = graph.add("add", { a: sum, b: norm }, "again");
  const given = { a: floats([3, 32], 1), b: floats([3, 32], 2) };
  for (const pair of await both(graph.finish([norm, again]), given)) {
    assertLess(relative(pair), ROUNDING);
  }
});

Deno.test("gelu in both forms, and its pullbacks", async () => {
  for (const form of ["exact", "tanh"] as const) {
    const graph = new GraphBuilder();
    const [x, dy] = ["x", "dy"].map((name) => graph.input(name, "float32", ["tokens", 64]));
    const out = graph.add("gelu", { x, form }, "out");
    const back = graph.add("geluGrad", { x, dy, form }, "back");
    const given = { x: floats([9, 64], 1, 3), dy: floats([9, 64], 2) };
    for (const pair of await both(graph.finish([out, back]), given)) {
      assertLess(relative(pair), ROUNDING, form);
    }
  }
});

Deno.test("vectors are weighted sums of tokens, and back", async () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", 24]);
  const weights = graph.input("weights", "float32", ["vectors", "tokens"]);
  const dy = graph.input("dy", "float32", ["vectors", 24]);
  const out = graph.add("pool", { x, weights }, "out");
  const back = graph.add("poolGrad", { weights, dy }, "back");
  const given = { x: floats([9, 24], 1), weights: floats([3, 9], 2), dy: floats([3, 24], 3) };
  for (const pair of await both(graph.finish([out, back]), given)) {
    assertLess(relative(pair), ROUNDING);
  }
});

const TEXTS = [
  { lengths: [1], heads: 2, headDim: 4 },
  { lengths: [5, 5, 5], heads: 1, headDim: 8 },
  { lengths: [3, 17, 1, 9], heads: 12, headDim: 32 },
];

for (const biased of [false, true]) {
  const title = biased ? "with a bias by distance" : "alone";
  Deno.test(`texts of several lengths attend to their own tokens, ${title}, and back`, async () => {
    for (const { lengths: counts, heads, headDim } of TEXTS) {
      const time = Math.max(...counts);
      const graph = new GraphBuilder();
      const qkv = graph.input("qkv", "float32", ["tokens", 3 * heads * headDim]);
      const dy = graph.input("dy", "float32", ["tokens", heads * headDim]);
      const grid = graph.input("grid", "int64", [2]);
      const lengths = graph.input("lengths", "int32", ["batch"]);
      const cells = graph.input("cells", "int32", ["cells"]);
      const places = graph.input("places", "int32", ["tokens"]);
      const table = graph.parameter("table", [heads, 2 * 20 - 1]);
      const bias = biased ? { bias: graph.add("relativeBias", { table, grid }, "bias") } : {};
      const scale = 1 / Math.sqrt(headDim);
      const form = { qkv, heads, headDim, scale, grid, lengths, cells, places, ...bias };
      const out = graph.add("bidirectionalAttention", form, "out");
      const back = graph.add("bidirectionalAttentionGrad", { ...form, dy }, "back");
      const tokens = counts.reduce((a, b) => a + b);
      const given: Inputs = {
        qkv: floats([tokens, 3 * heads * headDim], 1),
        dy: floats([tokens, heads * headDim], 2),
        grid: ints(counts.length, time),
        lengths: ints(...counts),
        ...layoutOf(counts),
      };
      for (const pair of await both(graph.finish([out, back]), given)) {
        assertLess(relative(pair), ROUNDING, `lengths ${counts}`);
      }
    }
  });
}

/** Texts end to end; cells behind a text name the last token of all, which must not be seen. */
function layoutOf(lengths: readonly number[]): Inputs {
  const time = Math.max(...lengths);
  const places = lengths.flatMap((length, row) => Array.from({ length }, (_, t) => row * time + t));
  const cells = new Array<number>(lengths.length * time).fill(places.length - 1);
  places.forEach((cell, token) => cells[cell] = token);
  return { cells: ints(...cells), places: ints(...places) };
}
