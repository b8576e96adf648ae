/**
 * The operations of training, lowered to ONNX Runtime's CPU kernels, against the naive evaluator:
 * the loss, attention without caches, what pullbacks are made of. A whole decoder is
 * `training_decoder_test.ts`'.
 *
 * Tolerances are largest difference over root mean square of what is expected, as in `ops_test.ts`:
 * float32 sums of some hundred products in another order than the evaluator's float64, 1e-5.
 */
import { assertEquals, assertGreater, assertLess } from "@std/assert";
import type { Evaluated } from "../../src/graph/reference/evaluate.ts";
import { integersOf } from "../../src/executor/integer_check.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import type { LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { gradientsOf, SHARING, type Sharing } from "./differences.ts";
import { DEVICE } from "./device.ts";
import { assertExact, both, cosine, floats, ints, relative } from "./pairs.ts";
import { distance, FLOAT32, normal } from "./run.ts";

const ROUNDING = 1e-5;

/** Attention's softmax: the kernels' exponential is a polynomial of about 1e-6. */
const ATTENTION = 3e-5;

/** In uint8, exact on every processor, and as this one's own. */
const W8A8 = (["uint8", await integersOf(DEVICE)] as const).map((integers): LoweringPlan => (
  { ...FLOAT32, linear: () => "w8a8", gradient: () => "w8a8", integers }
));

interface Heads {
  readonly batch: number;
  readonly time: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale?: number;
  readonly window?: number;
}

const HEADS: readonly Heads[] = [
  { batch: 1, time: 1, heads: 2, kvHeads: 2, headDim: 16 },
  { batch: 1, time: 9, heads: 2, kvHeads: 2, headDim: 16, scale: 0.3 },
  { batch: 3, time: 7, heads: 9, kvHeads: 3, headDim: 64 },
  { batch: 2, time: 70, heads: 4, kvHeads: 1, headDim: 32, window: 5 },
  { batch: 4, time: 12, heads: 3, kvHeads: 1, headDim: 16, window: 1 },
  { batch: 2, time: 4, heads: 2, kvHeads: 1, headDim: 32, window: 4 },
];

/** Attention of one qkv, its output and its pullback's. */
async function attend(shape: Heads, seed: number): Promise<readonly [number, number]> {
  const { batch, time, heads, kvHeads, headDim, scale = 0.5, window } = shape;
  const graph = new GraphBuilder();
  const width = (heads + 2 * kvHeads) * headDim;
  const table = (name: string) => graph.parameter(name, [time + 3, headDim / 2]);
  const form = { cos: table("cos"), sin: table("sin"), grid: graph.input("grid", "int64", [2]) };
  const qkv = graph.input("qkv", "float32", ["tokens", width]);
  const args = { ...form, heads, kvHeads, headDim, scale, window, qkv };
  const out = graph.add("causalAttention", args, "out");
  const dy = graph.input("dy", "float32", ["tokens", heads * headDim]);
  const grad = graph.add("causalAttentionGrad", { ...args, out, dy }, "dqkv");
  const pairs = await both(graph.finish([out, grad]), {
    qkv: floats([batch * time, width], seed, 1.5),
    dy: floats([batch * time, heads * headDim], seed + 1),
    grid: ints(batch, time),
  });
  return [relative(pairs[0]), relative(pairs[1])];
}

Deno.test("attention without caches and its pullback follow the formula, for grouped heads and windows", async () => {
  for (const [seed, shape] of HEADS.entries()) {
    const [out, grad] = await attend(shape, 10 * seed);
    assertLess(out, ATTENTION, JSON.stringify(shape));
    assertLess(grad, ATTENTION, JSON.stringify(shape));
  }
});

Deno.test("attention without caches and its pullback of random shapes follow the formula", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const next = normal(seed);
    const below = (limit: number) => Math.floor(Math.abs(next()) * 1e6) % limit;
    const kvHeads = 1 + below(3);
    const shape: Heads = {
      batch: 1 + below(4),
      time: 1 + below(24),
      heads: kvHeads * (1 + below(4)),
      kvHeads,
      headDim: 16 * (1 + below(4)),
      scale: 0.05 + below(10) / 20,
      ...(below(2) === 0 ? { window: 1 + below(12) } : {}),
    };
    const [out, grad] = await attend(shape, 1000 * seed);
    assertLess(out, ATTENTION, JSON.stringify(shape));
    assertLess(grad, ATTENTION, JSON.stringify(shape));
  }
});

/** The same for rows that share prefixes. */
async function attendShared({ time, offsets, context, window }: Sharing, seed: number) {
  const [heads, kvHeads, headDim, batch] = [6, 2, 16, offsets.length];
  const graph = new GraphBuilder();
  const width = (heads + 2 * kvHeads) * headDim;
  const positions = time + Math.max(...offsets);
  const table = (name: string) => graph.parameter(name, [positions, headDim / 2]);
  const args = {
    ...{ cos: table("cos"), sin: table("sin"), grid: graph.input("grid", "int64", [2]) },
    ...{ heads, kvHeads, headDim, scale: 0.5, window },
    qkv: graph.input("qkv", "float32", ["tokens", width]),
    context: graph.input("context", "int32", ["batch", "contexts"]),
    offsets: graph.input("offsets", "int32", ["batch"]),
  };
  const out = graph.add("causalAttention", args, "out");
  const dy = graph.input("dy", "float32", ["tokens", heads * headDim]);
  const grad = graph.add("causalAttentionGrad", { ...args, out, dy }, "dqkv");
  const pairs = await both(graph.finish([out, grad]), {
    qkv: floats([batch * time, width], seed, 1.5),
    dy: floats([batch * time, heads * headDim], seed + 1),
    grid: ints(batch, time),
    context: { shape: [batch, context[0].length], data: Int32Array.from(context.flat()) },
    offsets: ints(...offsets),
  });
  return pairs.map(relative);
}

Deno.test("attention of rows that share prefixes and its pullback follow the formula", async () => {
  for (const [seed, shape] of SHARING.entries()) {
    for (const error of await attendShared(shape, seed)) {
      assertLess(error, ATTENTION, JSON.stringify(shape));
    }
  }
});

Deno.test("nll, its gradient and hits follow the formula over small and large vocabularies", async () => {
  for (const [rows, vocab, scale] of [[1, 2, 1], [5, 300, 8], [3, 4000, 30], [2, 50000, 1]]) {
    const graph = new GraphBuilder();
    const logits = graph.input("logits", "float32", ["rows", vocab]);
    const targets = graph.input("targets", "int32", ["rows"]);
    const dy = graph.input("dy", "float32", ["rows"]);
    const nll = graph.add("nll", { logits, targets }, "nll");
    const hits = graph.add("hits", { logits, targets }, "hits");
    const grad = graph.add("nllGrad", { logits, targets, dy }, "dlogits");
    const values = floats([rows, vocab], vocab, scale);
    const best = values.data.indexOf(Math.max(...values.data.slice(0, vocab)));
    const [loss, hit, gradient] = await both(graph.finish([nll, hits, grad]), {
      logits: values,
      targets: ints(best, ...Array.from({ length: rows - 1 }, (_, i) => (i * 77 + 1) % vocab)),
      dy: floats([rows], 5),
    });
    assertLess(relative(loss), ROUNDING);
    assertExact(hit);
    assertEquals(hit.lowered[0], 1);
    assertLess(relative(gradient), ROUNDING);
  }
});

Deno.test("a loss is finite and its gradient right where logits are far apart", async () => {
  const graph = new GraphBuilder();
  const logits = graph.input("logits", "float32", ["rows", 3]);
  const targets = graph.input("targets", "int32", ["rows"]);
  const dy = graph.input("dy", "float32", ["rows"]);
  const nll = graph.add("nll", { logits, targets }, "nll");
  const grad = graph.add("nllGrad", { logits, targets, dy }, "dlogits");
  const data = Float32Array.of(1e4, 0, -1e4, 1e4, 0, -1e4);
  const [loss, gradient] = await both(graph.finish([nll, grad]), {
    logits: { shape: [2, 3], data },
    targets: ints(2, 0),
    dy: { shape: [2], data: Float32Array.of(0.5, 2) },
  });
  assertEquals(loss.lowered, Float32Array.of(2e4, 0));
  assertEquals(gradient.lowered, Float32Array.of(0.5, 0, -0.5, 0, 0, 0));
});

/** dx of a linear with these outputs. */
async function linearGrad(tokens: number, outputs: readonly number[], plan = FLOAT32) {
  const graph = new GraphBuilder();
  const width = outputs.reduce((sum, size) => sum + size, 0);
  const dy = graph.input("dy", "float32", ["tokens", width]);
  const weights = outputs.map((size, i) => graph.parameter(`w${i}`, [size, 192]));
  const finished = graph.finish([graph.add("linearGrad", { dy, weights }, "dx")]);
  const [pair] = await both(finished, { dy: floats([tokens, width], tokens) }, plan);
  return pair;
}

Deno.test("linearGrad multiplies by weights one below the other", async () => {
  for (const outputs of [[48], [64, 32, 96]]) {
    for (const tokens of [1, 9]) {
      assertLess(relative(await linearGrad(tokens, outputs)), ROUNDING);
    }
  }
});

Deno.test("linearGrad in 8 bits both sides is within their steps, and zeros stay zero", async () => {
  for (const tokens of [1, 9, 33]) {
    for (const plan of W8A8) {
      const pair = await linearGrad(tokens, [64, 32, 96], plan);
      // As a linear's in `kernels_test.ts`: the worst of some thousand sums of 192 rounded products.
      assertLess(relative(pair), 0.06);
      assertGreater(cosine(pair), 0.9998);
    }
  }
  const graph = new GraphBuilder();
  const dy = graph.input("dy", "float32", ["tokens", 64]);
  const weights = [graph.parameter("w", [64, 32])];
  const dx = graph.add("linearGrad", { dy, weights }, "dx");
  const given = { dy: { shape: [2, 64], data: new Float32Array(128) } };
  const [{ lowered }] = await both(graph.finish([dx]), given, W8A8[0]);
  assertEquals(lowered, new Float32Array(64));
});

Deno.test("16 bits of dy in two products keep what one large element hides from 8", async () => {
  const graph = new GraphBuilder();
  const dy = graph.input("dy", "float32", ["tokens", 2048]);
  const dx = graph.add("linearGrad", { dy, weights: [graph.parameter("w", [2048, 64])] }, "dx");
  // As p - target: thousands of small ones of one sign, and one of -1; the last row is padding.
  const data = floats([4, 2048], 3).data.map((x, i) => i % 2048 === 7 ? -1 : Math.abs(x) / 1024);
  const given = { dy: { shape: [4, 2048], data: data.fill(0, 3 * 2048) } };
  const plan = (kernel: "w8a8" | "w8a16") => ({
    ...FLOAT32,
    gradient: () => kernel,
    integers: "uint8" as const,
  });
  const [eight] = await both(graph.finish([dx]), given, plan("w8a8"));
  const [sixteen] = await both(graph.finish([dx]), given, plan("w8a16"));
  // The small ones are a tenth of the sum; the weights' own 8 bits cost a hundredth.
  assertGreater(relative(eight), 0.1);
  assertLess(relative(sixteen), 0.05);
  assertEquals(sixteen.lowered.slice(3 * 64), new Float32Array(64));
});

Deno.test("rmsNormGrad follows the formula, for features in one group and in several", async () => {
  for (const [groups, width] of [[1, 24], [1, 576], [4, 16], [9, 64]]) {
    for (const tokens of [1, 7]) {
      const graph = new GraphBuilder();
      const [x, dy] = ["x", "dy"].map((name) =>
        graph.input(name, "float32", ["tokens", groups * width])
      );
      const gamma = graph.parameter("gamma", [width]);
      const dx = graph.add("rmsNormGrad", { x, gamma, dy, eps: 1e-3, groups }, "dx");
      const shape = [tokens, groups * width];
      const given = { x: floats(shape, 1, 0.1), dy: floats(shape, 2) };
      const [pair] = await both(graph.finish([dx]), given);
      assertLess(relative(pair), ROUNDING);
    }
  }
});

/** Where a gate is saturated, 1 + x - silu(x) is a difference of large numbers. */
const GATES = [[1, 8, 1, ROUNDING], [5, 96, 4, ROUNDING], [17, 1536, 40, 3 * ROUNDING]];

for (const activation of ["silu", "gelu_tanh"] as const) {
  Deno.test(`gluGrad of ${activation} follows the formula, saturated gates included`, async () => {
    for (const [tokens, width, scale, tolerance] of GATES) {
      const graph = new GraphBuilder();
      const x = graph.input("x", "float32", ["tokens", 2 * width]);
      const dy = graph.input("dy", "float32", ["tokens", width]);
      const finished = graph.finish([graph.add("gluGrad", { x, dy, activation }, "dx")]);
      const given = { x: floats([tokens, 2 * width], 1, scale), dy: floats([tokens, width], 2) };
      const [pair] = await both(finished, given);
      assertLess(relative(pair), tolerance);
    }
  });

  Deno.test(`gated by ${activation} and its pullback follow the formula, and are glu's of the halves apart`, async () => {
    for (const [tokens, width, scale, tolerance] of GATES) {
      const graph = new GraphBuilder();
      const [gate, up, dy] = ["gate", "up", "dy"].map((name) =>
        graph.input(name, "float32", ["tokens", width])
      );
      const out = graph.add("gated", { gate, up, activation }, "out");
      const gradients = gradientsOf(graph, out, dy, [gate, up]);
      const x = graph.add("concat", { parts: [gate, up] }, "x");
      const whole = graph.add("glu", { x, activation }, "whole");
      const dx = graph.add("gluGrad", { x, dy, activation }, "dx");
      const joined = graph.add("concat", { parts: gradients }, "joined");
      const shape = [tokens, width];
      const pairs = await both(graph.finish([out, joined, whole, dx]), {
        gate: floats(shape, 1, scale),
        up: floats(shape, 2, scale),
        dy: floats(shape, 3),
      });
      for (const pair of pairs) assertLess(relative(pair), tolerance);
      for (const i of [0, 1]) {
        assertLess(distance(pairs[i].naive.data, pairs[i + 2].naive.data), 1e-9);
      }
    }
  });
}

Deno.test("a soft cap and its pullback follow the formula", async () => {
  for (const cap of [2, 50]) {
    const graph = new GraphBuilder();
    const [x, dy] = ["x", "dy"].map((name) => graph.input(name, "float32", ["tokens", 24]));
    const y = graph.add("softCap", { x, cap }, "y");
    const [dx] = gradientsOf(graph, y, dy, [x]);
    const given = { x: floats([5, 24], 1, 20), dy: floats([5, 24], 2) };
    for (const pair of await both(graph.finish([y, dx]), given)) {
      assertLess(relative(pair), ROUNDING);
    }
  }
});

Deno.test("spread and scatterRows put numbers where columns and rows took them from", async () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["rows", 5]);
  const like = graph.input("like", "float32", ["tokens", 5]);
  const index = graph.input("index", "int32", ["rows"]);
  const places = [[0, 5], [0, 9], [4, 9], [2, 9]];
  const spread = places.map(([start, width], i) =>
    graph.add("spread", { x, start, width }, `s${i}`)
  );
  const scattered = graph.add("scatterRows", { x, index, like }, "scattered");
  const given = { x: floats([4, 5], 1), like: floats([6, 5], 2), index: ints(5, 0, 3, 1) };
  for (const pair of await both(graph.finish([...spread, scattered]), given)) assertExact(pair);
  const twice = { ...given, index: ints(2, 2, 0, 2) };
  const sums = (await both(graph.finish([scattered]), twice))[0];
  assertLess(relative(sums), ROUNDING);
});

/** What a branch's pieces are computed from; factors as parameters and as inputs are lowered apart. */
interface Branch {
  readonly batch: number;
  readonly time: number;
  readonly rank: number;
  readonly sizes: readonly number[];
  readonly offsets: readonly number[];
  readonly factors: "parameters" | "inputs";
}

const BRANCHES: readonly Branch[] = [
  { batch: 2, time: 3, rank: 1, sizes: [40], offsets: [0], factors: "parameters" },
  { batch: 5, time: 1, rank: 16, sizes: [32, 16], offsets: [0, 80], factors: "inputs" },
  { batch: 3, time: 7, rank: 16, sizes: [32, 16, 16], offsets: [0, 32, 48], factors: "parameters" },
  { batch: 2, time: 20, rank: 64, sizes: [64], offsets: [32], factors: "inputs" },
];

/** lotr on inputs x and y of 48 and 96 features, and what it is computed from. */
function branch({ batch, time, rank, sizes, offsets, factors }: Branch) {
  const graph = new GraphBuilder();
  const given: Record<string, Evaluated> = { grid: ints(batch, time) };
  const tokens = (name: string, width: number) => {
    given[name] = floats([batch * time, width], width + name.length);
    return graph.input(name, "float32", ["tokens", width]);
  };
  const factor = (name: string, shape: readonly number[]) => {
    if (factors === "parameters") return graph.parameter(name, shape);
    given[name] = floats(shape, shape[1] + name.length, 0.3);
    return graph.input(name, "float32", shape);
  };
  const a = factor("a", [48, rank]);
  const b = sizes.map((size, m) => factor(`b${m}`, [rank, size]));
  const grid = graph.input("grid", "int64", [2]);
  const cores = graph.input("cores", "float32", ["batch", rank, sizes.length * rank]);
  given.cores = floats([batch, rank, sizes.length * rank], 3, 0.3);
  const args = { x: tokens("x", 48), y: tokens("y", 96), a, cores, b, offsets, grid };
  return { graph, given, tokens, args };
}

Deno.test("a branch and each piece of its pullback follow the formulas, with factors given or frozen", async () => {
  for (const shape of BRANCHES) {
    const { graph, given, tokens, args } = branch(shape);
    const { x, y, a, cores, b, grid, offsets } = args;
    const out = graph.add("lotr", args, "out");
    const u = graph.add("project", { x, w: a }, "u");
    const v = graph.add("coreProduct", { u, cores, grid }, "v");
    const dv = graph.add("lotrGrad", { dy: y, b, offsets }, "dv");
    const du = graph.add("coreProductGrad", { dv, cores, grid }, "du");
    const dx = graph.add("projectGrad", { dy: du, w: a }, "dx");
    const dcores = graph.add("coreGrad", { u, dv, cores, grid }, "dcores");
    const da = graph.add("outer", { a: x, b: du }, "da");
    const wide = graph.add("outer", { a: tokens("left", 5), b: tokens("right", 3) }, "wide");
    const outputs = [out, u, v, dv, du, dx, dcores, da, wide];
    const pairs = await both(graph.finish(outputs), given);
    for (const [i, pair] of pairs.entries()) {
      assertLess(relative(pair), ROUNDING, `${outputs[i].name} of ${JSON.stringify(shape)}`);
    }
  }
});

Deno.test("differentiating a branch by x, A, B and cores lowers to what the evaluator says", async () => {
  for (const shape of BRANCHES) {
    const { graph, given, tokens, args } = branch(shape);
    const out = graph.add("lotr", args, "out");
    const wanted = [args.x, args.a, args.cores, ...args.b];
    const gradients = gradientsOf(graph, out, tokens("dy", 96), wanted);
    const pairs = await both(graph.finish(gradients), given);
    for (const [i, pair] of pairs.entries()) assertLess(relative(pair), ROUNDING, wanted[i].name);
  }
});
