/**
 * The pullback of every differentiable operation, by each argument that has a gradient, against
 * central differences on the float64 evaluator. The walk over whole graphs is `autodiff_test.ts`'.
 *
 * Tolerance: a step of 1e-5 leaves a relative truncation of some 1e-10 times the third derivative
 * and a rounding of 1e-16 / 1e-5 times the terms of the sum; 1e-7 is room for both, and any wrong
 * sign, factor or term is far above it.
 */
import { assertEquals, assertLess, assertThrows } from "@std/assert";
import { differentiate } from "../../src/graph/autodiff.ts";
import type { Layout, Value } from "../../src/graph/ops.ts";
import { PULLBACKS } from "../../src/graph/pullbacks.ts";
import { compare, SHARING, Sketch } from "./differences.ts";

const TOLERANCE = 1e-7;

/** An output, and the inputs to differentiate it by. */
interface Case {
  readonly out: Value;
  readonly wanted: readonly Value[];
}

const TESTED = new Set<string>();

/** Checks an operation at each of several shapes. */
function check<T>(
  title: string,
  shapes: readonly T[],
  build: (to: Sketch, shape: T) => Case,
): void {
  const [op = ""] = title.split(/\W/);
  TESTED.add(op);
  Deno.test(`the pullback of ${title} matches finite differences`, () => {
    for (const [seed, shape] of shapes.entries()) {
      const sketch = new Sketch(seed);
      const { out, wanted } = build(sketch, shape);
      assertEquals(sketch.graph.nodes.at(-1)?.op as string, op);
      for (const { wanted: { name }, error } of compare(sketch, out, wanted)) {
        assertLess(error, TOLERANCE, `by ${name} at ${JSON.stringify(shape)}`);
      }
    }
  });
}

const NORMS = [
  { tokens: 1, groups: 1, width: 6, eps: 1e-5 },
  { tokens: 5, groups: 1, width: 6, eps: 0.1 },
  { tokens: 3, groups: 4, width: 4, eps: 1e-2 },
];

check("rmsNorm, in one group and in several,", NORMS, (to, { tokens, groups, width, eps }) => {
  const x = to.tokens("x", tokens, groups * width);
  const gamma = to.floats("gamma", [width]);
  return { out: to.graph.add("rmsNorm", { x, gamma, eps, groups }, "y"), wanted: [x] };
});

check("layerNorm", [[1, 6, 1e-5], [5, 4, 0.1]], (to, [tokens, width, eps]) => {
  const x = to.tokens("x", tokens, width);
  const [gamma, beta] = ["gamma", "beta"].map((name) => to.floats(name, [width]));
  return { out: to.graph.add("layerNorm", { x, gamma, beta, eps }, "y"), wanted: [x] };
});

check("gelu, exact and by tanh,", ["exact", "tanh"] as const, (to, form) => {
  // a tail, where the exact form's series and continued fraction meet, too
  const x = to.floats("x", ["tokens", 6], [4, 6], 2);
  return { out: to.graph.add("gelu", { x, form }, "y"), wanted: [x] };
});

check("pool", [[1, 1, 2], [3, 5, 4]], (to, [vectors, tokens, width]) => {
  const x = to.tokens("x", tokens, width);
  const weights = to.floats("weights", ["vectors", "tokens"], [vectors, tokens]);
  return { out: to.graph.add("pool", { x, weights }, "y"), wanted: [x] };
});

const TEXTS = [
  { lengths: [1], heads: 1, headDim: 2, biased: false },
  { lengths: [4, 2, 1], heads: 2, headDim: 3, biased: true },
  { lengths: [3, 3], heads: 3, headDim: 2, biased: false },
];

check("bidirectionalAttention over texts of several lengths", TEXTS, (to, shape) => {
  const { lengths: given, heads, headDim, biased } = shape;
  const [count, time] = [given.reduce((a, b) => a + b), Math.max(...given)];
  const qkv = to.tokens("qkv", count, 3 * heads * headDim);
  const { cells, places } = packed(to, given);
  const lengths = to.ints("lengths", given, "batch");
  const bias = biased
    ? { bias: to.floats("bias", [1, heads, "time", "time"], [1, heads, time, time]) }
    : {};
  const layout = { grid: to.grid(given.length, time), lengths, cells, places };
  const args = { qkv, heads, headDim, scale: 0.6, ...layout, ...bias };
  return { out: to.graph.add("bidirectionalAttention", args, "out"), wanted: [qkv] };
});

/** Texts end to end, each at the start of its row; what is behind it names the first token of all. */
function packed(to: Sketch, lengths: readonly number[]): Layout {
  const time = Math.max(...lengths);
  const cells = new Array<number>(lengths.length * time).fill(0);
  const places = lengths.flatMap((length, row) => Array.from({ length }, (_, t) => row * time + t));
  places.forEach((cell, token) => cells[cell] = token);
  return { cells: to.ints("cells", cells, "cells"), places: to.ints("places", places, "tokens") };
}

const LINEARS = [
  { tokens: 1, outputs: [5], biased: false },
  { tokens: 4, outputs: [3, 6, 2], biased: true },
];

check("linear by its input and each weight", LINEARS, (to, { tokens, outputs, biased }) => {
  const x = to.tokens("x", tokens, 7);
  const weights = outputs.map((size, i) => to.floats(`w${i}`, [size, 7]));
  const biases = biased ? outputs.map((size, i) => to.floats(`b${i}`, [size])) : [];
  const out = to.graph.add("linear", { x, weights, biases }, "y");
  return { out, wanted: [x, ...weights] };
});

const BRANCHES = [
  { batch: 1, time: 1, rank: 1, width: 5, sizes: [5], offsets: [0] },
  { batch: 3, time: 2, rank: 3, width: 12, sizes: [4, 3], offsets: [0, 8] },
  { batch: 1, time: 4, rank: 2, width: 12, sizes: [4, 3, 5], offsets: [0, 4, 7] },
  { batch: 4, time: 1, rank: 4, width: 16, sizes: [3, 3, 3, 3], offsets: [1, 4, 8, 13] },
];

check("lotr by x, y, A, every B and the cores of every row", BRANCHES, (to, shape) => {
  const { batch, time, rank, width, sizes, offsets } = shape;
  const x = to.tokens("x", batch * time, 6);
  const y = to.tokens("y", batch * time, width);
  const a = to.floats("a", [6, rank]);
  const b = sizes.map((size, m) => to.floats(`b${m}`, [rank, size]));
  const cores = to.floats(
    "cores",
    ["batch", rank, sizes.length * rank],
    [batch, rank, sizes.length * rank],
  );
  const grid = to.grid(batch, time);
  const out = to.graph.add("lotr", { x, y, a, cores, b, offsets, grid }, "out");
  return { out, wanted: [x, y, a, cores, ...b] };
});

check("lotr with tokens anywhere on the grid", BRANCHES, (to, shape) => {
  const { batch, time, rank, width, sizes, offsets } = shape;
  const count = batch * time;
  const x = to.tokens("x", count, 6);
  const y = to.tokens("y", count, width);
  const a = to.floats("a", [6, rank]);
  const b = sizes.map((size, m) => to.floats(`b${m}`, [rank, size]));
  const cores = to.floats(
    "cores",
    ["batch", rank, sizes.length * rank],
    [batch, rank, sizes.length * rank],
  );
  const layout = rotatedLayout(to, count);
  const args = { x, y, a, cores, b, offsets, grid: to.grid(batch, time), ...layout };
  return { out: to.graph.add("lotr", args, "out"), wanted: [x, y, a, cores, ...b] };
});

check("regroup", [1, 2, 5], (to, count) => {
  const x = to.tokens("x", count, 3);
  const { cells: index, places: inverse } = rotatedLayout(to, count);
  return { out: to.graph.add("regroup", { x, index, inverse }, "y"), wanted: [x] };
});

/** Token t in cell t + 1, the last one in cell 0. */
function rotatedLayout(to: Sketch, count: number): Layout {
  const turned = (by: number) => Array.from({ length: count }, (_, i) => (i + by) % count);
  return {
    cells: to.ints("cells", turned(count - 1), "tokens"),
    places: to.ints("places", turned(1), "tokens"),
  };
}

const HEADS = [
  { batch: 1, time: 1, heads: 1, kvHeads: 1, headDim: 2 },
  { batch: 1, time: 5, heads: 2, kvHeads: 2, headDim: 4, scale: 0.5 },
  { batch: 3, time: 4, heads: 4, kvHeads: 2, headDim: 4, scale: 0.7 },
  { batch: 2, time: 6, heads: 3, kvHeads: 1, headDim: 6, window: 3 },
  { batch: 2, time: 3, heads: 2, kvHeads: 1, headDim: 4, window: 1 },
  { batch: 1, time: 3, heads: 2, kvHeads: 2, headDim: 2, window: 9 },
  { batch: 2, time: 4, heads: 2, kvHeads: 1, headDim: 4, cap: 0.4 },
  { batch: 1, time: 4, heads: 2, kvHeads: 2, headDim: 6, turned: 4 },
  { batch: 1, time: 4, heads: 2, kvHeads: 2, headDim: 6, turned: 4, interleaved: true },
];

check("causalAttention, with grouped heads and windows,", HEADS, (to, shape) => {
  const { batch, time, heads, kvHeads, headDim } = shape;
  const absent = { scale: undefined, window: undefined, cap: undefined };
  const given = { ...absent, turned: headDim, interleaved: false, ...shape };
  const { scale = 1, window, cap, turned, interleaved } = given;
  const qkv = to.tokens("qkv", batch * time, (heads + 2 * kvHeads) * headDim);
  const bent = { scale, window, cap, interleaved };
  const form = { ...to.rotation(time, turned), grid: to.grid(batch, time), ...bent };
  const args = { qkv, heads, kvHeads, headDim, ...form };
  return { out: to.graph.add("causalAttention", args, "out"), wanted: [qkv] };
});

check("causalAttention, with prefixes that rows share,", SHARING, (to, shape) => {
  const { time, offsets, context, window } = shape;
  const [heads, kvHeads, headDim, batch] = [4, 2, 4, offsets.length];
  const qkv = to.tokens("qkv", batch * time, (heads + 2 * kvHeads) * headDim);
  const args = {
    ...{ qkv, heads, kvHeads, headDim, window, scale: 0.6, grid: to.grid(batch, time) },
    ...to.rotation(time + Math.max(...offsets), headDim),
    context: to.table("context", context),
    offsets: to.ints("offsets", offsets, "batch"),
  };
  return { out: to.graph.add("causalAttention", args, "out"), wanted: [qkv] };
});

check("add by both terms", [[1, 3], [4, 2]], (to, [tokens, width]) => {
  const [a, b] = ["a", "b"].map((name) => to.tokens(name, tokens, width));
  return { out: to.graph.add("add", { a, b }, "y"), wanted: [a, b] };
});

const GATES = [
  { tokens: 1, width: 1 },
  { tokens: 4, width: 5 },
  { tokens: 1, width: 1, activation: "gelu_tanh" },
  { tokens: 4, width: 5, activation: "gelu_tanh" },
] as const;

check("glu of either activation", GATES, (to, { tokens, width, ...form }) => {
  const x = to.tokens("x", tokens, 2 * width);
  return { out: to.graph.add("glu", { x, ...form }, "y"), wanted: [x] };
});

check("gated by gate and what it lets through", GATES, (to, { tokens, width, ...form }) => {
  const [gate, up] = ["gate", "up"].map((name) => to.tokens(name, tokens, width));
  return { out: to.graph.add("gated", { gate, up, ...form }, "y"), wanted: [gate, up] };
});

check("softCap", [0.5, 30], (to, cap) => {
  const x = to.tokens("x", 3, 4);
  return { out: to.graph.add("softCap", { x, cap }, "y"), wanted: [x] };
});

const COLUMNS = [{ start: 0, size: 7 }, { start: 0, size: 3 }, { start: 5, size: 2 }];

check("columns, all and some,", COLUMNS, (to, part) => {
  const x = to.tokens("x", 3, 7);
  return { out: to.graph.add("columns", { x, ...part }, "y"), wanted: [x] };
});

check("concat by parts that come once and twice", [[1], [3]], (to, [tokens]) => {
  const [a, b] = [2, 5].map((width) => to.tokens(`of ${width}`, tokens, width));
  return { out: to.graph.add("concat", { parts: [a, b, a] }, "y"), wanted: [a, b] };
});

check("rows that come never, once and twice", [[2], [0, 3, 3], [4, 1, 0, 1, 1]], (to, index) => {
  const x = to.tokens("x", 5, 3);
  return { out: to.graph.add("rows", { x, index: to.ints("index", index) }, "y"), wanted: [x] };
});

check("nll", [[0], [6, 2, 2, 0]], (to, targets) => {
  const logits = to.floats("logits", ["rows", 7], [targets.length, 7], 2);
  const out = to.graph.add("nll", { logits, targets: to.ints("targets", targets) }, "loss");
  return { out, wanted: [logits] };
});

const TAUGHT = [
  { tokens: [[2]], shares: [[0.7, 0.3]] },
  {
    tokens: [[6, 0, 3], [1, 2, 5], [4, 5, 6]],
    shares: [[0.5, 0.2, 0.1, 0.2], [0.9, 0, 0.1, 0], [0.1, 0.1, 0.1, 0.7]],
  },
];

check("kl, by logits,", TAUGHT, (to, { tokens: ids, shares: given }) => {
  const logits = to.floats("logits", ["rows", 7], [ids.length, 7], 2);
  const tokens = to.table("tokens", ids, ["rows", ids[0].length]);
  const shares = to.floats("shares", ["rows", given[0].length], [given.length, given[0].length]);
  to.given.shares.data.set(given.flat());
  return { out: to.graph.add("kl", { logits, tokens, shares }, "loss"), wanted: [logits] };
});

check("project by both factors", [[1, 1, 1], [5, 3, 4]], (to, [tokens, k, n]) => {
  const x = to.tokens("x", tokens, k);
  const w = to.floats("w", [k, n]);
  return { out: to.graph.add("project", { x, w }, "y"), wanted: [x, w] };
});

check("coreProduct by both factors", [[1, 3, 2, 1], [3, 2, 3, 2]], (to, shape) => {
  const [batch, time, rank, modules] = shape;
  const u = to.tokens("u", batch * time, rank);
  const run = [batch, rank, modules * rank];
  const cores = to.floats("cores", ["batch", rank, modules * rank], run);
  const args = { u, cores, grid: to.grid(batch, time) };
  return { out: to.graph.add("coreProduct", args, "v"), wanted: [u, cores] };
});

Deno.test("an argument used twice by one operation gets the sum of both gradients", () => {
  const doubled = new Sketch(1);
  const x = doubled.tokens("x", 2, 3);
  const y = doubled.graph.add("add", { a: x, b: x }, "y");
  for (const { error } of compare(doubled, y, [x])) assertLess(error, TOLERANCE);
  const branch = new Sketch(2);
  const same = branch.tokens("same", 4, 5);
  const a = branch.floats("a", [5, 2]);
  const cores = branch.floats("cores", ["batch", 2, 2], [2, 2, 2]);
  const b = [branch.floats("b", [2, 5])];
  const args = { x: same, y: same, a, cores, b, offsets: [0], grid: branch.grid(2, 2) };
  const out = branch.graph.add("lotr", args, "out");
  for (const { error } of compare(branch, out, [same])) assertLess(error, TOLERANCE);
});

/** A refusal: what is asked for, and what the message says. */
const REFUSALS: readonly (readonly [string, (to: Sketch) => Case, string])[] = [
  ["an embedding's table", (to) => {
    const table = to.floats("table", [9, 2]);
    const out = to.graph.add("embed", { ids: to.ints("ids", [1, 2]), table }, "y");
    return { out, wanted: [table] };
  }, "the table is frozen"],
  ["a norm's gamma", (to) => {
    const gamma = to.floats("gamma", [2]);
    const args = { x: to.tokens("x", 3, 2), gamma, eps: 1e-5, groups: 1 };
    return { out: to.graph.add("rmsNorm", args, "y"), wanted: [gamma] };
  }, "by gamma: rmsNorm's gamma is frozen"],
  ["a linear's bias", (to) => {
    const biases = [to.floats("bias", [4])];
    const args = { x: to.tokens("x", 3, 2), weights: [to.floats("w", [4, 2])], biases };
    return { out: to.graph.add("linear", args, "y"), wanted: biases };
  }, "by bias: a linear's bias is frozen"],
  ["a rotation", (to) => {
    const rotation = to.rotation(3, 2);
    const form = { heads: 1, kvHeads: 1, headDim: 2, scale: 1, window: undefined };
    const args = { qkv: to.tokens("qkv", 3, 6), grid: to.grid(1, 3), ...rotation, ...form };
    return { out: to.graph.add("causalAttention", args, "y"), wanted: [rotation.cos] };
  }, "by cos: the rotation is frozen"],
  ["attention with caches", (to) => {
    const qkv = to.tokens("qkv", 1, 6);
    const [keys, values] = ["keys", "values"].map((name) => to.floats(name, [1, 1, 4, 2]));
    const counts = { lengths: to.ints("lengths", [0]), total: to.ints("total", [1]) };
    const form = { heads: 1, kvHeads: 1, headDim: 2, scale: 1, window: undefined };
    const args = { qkv, keys, values, ...counts, ...form, grid: to.grid(1, 1) };
    const out = to.graph.add("attention", { ...args, ...to.rotation(4, 2) }, "y");
    return { out, wanted: [qkv] };
  }, "train with causalAttention"],
  ["counted hits", (to) => {
    const logits = to.tokens("logits", 3, 2);
    const out = to.graph.add("hits", { logits, targets: to.ints("targets", [0, 1, 1]) }, "y");
    return { out, wanted: [logits] };
  }, "hits counts"],
  ["a gradient", (to) => {
    const [x, dy] = [to.tokens("x", 3, 4), to.tokens("dy", 3, 2)];
    return { out: to.graph.add("gluGrad", { x, dy }, "dx"), wanted: [dy] };
  }, "gluGrad: gradients are taken once"],
];

for (const [what, build, message] of REFUSALS) {
  Deno.test(`differentiating by or through ${what} is refused, saying why`, () => {
    const sketch = new Sketch(1);
    const { out, wanted } = build(sketch);
    const seed = sketch.graph.input("seed", "float32", out.shape);
    assertThrows(
      () => differentiate(sketch.graph, new Map([[out, seed]]), wanted),
      TypeError,
      message,
    );
  });
}

Deno.test("every operation either has its pullback checked here or refuses to be differentiated", () => {
  for (const [op, pullback] of Object.entries(PULLBACKS)) {
    // What refuses, refuses whatever it is given.
    const refuses = pullback.length === 0;
    assertEquals(TESTED.has(op), !refuses, op);
  }
});
