/**
 * Every operation, lowered to ONNX Runtime's CPU kernels, against the naive evaluator. Shape rules
 * are `shapes_test.ts`', linears in their other precisions `kernels_test.ts`', attention
 * `attention_test.ts`'.
 *
 * Tolerances are relative to the root mean square of what is expected. Operations that only move or
 * compare numbers are exact. float32 sums of up to a few hundred products in another order than the
 * evaluator's float64 are off by a few units of the last place (6e-8): 1e-5 leaves room for chains.
 */
import { assertEquals, assertLess, assertLessOrEqual } from "@std/assert";
import type { Evaluated } from "../../src/graph/reference/evaluate.ts";
import { type Graph, GraphBuilder } from "../../src/graph/graph.ts";
import type { Value } from "../../src/graph/ops.ts";
import { assertExact, both, floats, type Inputs, ints, relative } from "./pairs.ts";
import { distance, FLOAT32, normal } from "./run.ts";

const ROUNDING = 1e-5;

Deno.test("embed takes rows of the table: float32 exactly, int8 within half a step of each block", async () => {
  for (const [vocab, width] of [[5, 32], [300, 96]]) {
    const graph = new GraphBuilder();
    const ids = graph.input("ids", "int32", ["tokens"]);
    const table = graph.parameter("table", [vocab, width]);
    const finished = graph.finish([graph.add("embed", { ids, table }, "out")]);
    const given = { ids: ints(0, vocab - 1, 2, 2) };
    const [plain] = await both(finished, given);
    assertExact(plain);
    for (const device of ["cpu", "webgpu", "cuda"] as const) {
      const plan = { ...FLOAT32, embedding: "int8" as const, device };
      const [{ lowered, naive: { data } }] = await both(finished, given, plan);
      for (let block = 0; block < data.length; block += 32) {
        const [got, wanted] = [lowered, data].map((all) => all.slice(block, block + 32));
        const step = Math.max(...wanted.map(Math.abs)) / 127;
        assertLessOrEqual(distance(got, wanted), step / 2 * (1 + 1e-5), device);
      }
    }
  }
});

Deno.test("rmsNorm scales each group of features by its root mean square", async () => {
  for (const [groups, width] of [[1, 24], [1, 576], [4, 16], [9, 64]]) {
    for (const tokens of [1, 7]) {
      const graph = new GraphBuilder();
      const x = graph.input("x", "float32", ["tokens", groups * width]);
      const gamma = graph.parameter("gamma", [width]);
      const out = graph.add("rmsNorm", { x, gamma, eps: 1e-3, groups }, "out");
      const [pair] = await both(graph.finish([out]), {
        x: floats([tokens, groups * width], 1, 0.1),
      });
      assertLess(relative(pair), ROUNDING);
    }
  }
});

Deno.test("an addition and the norm of its sum are right as one kernel, and the sum is kept", async () => {
  for (const [tokens, width] of [[1, 16], [5, 96], [33, 576]]) {
    const graph = new GraphBuilder();
    const shape = ["tokens", width];
    const [a, b] = ["a", "b"].map((name) => graph.input(name, "float32", shape));
    const sum = graph.add("add", { a, b }, "sum");
    const gamma = graph.parameter("gamma", [width]);
    const norm = graph.add("rmsNorm", { x: sum, gamma, eps: 1e-5, groups: 1 }, "norm");
    const again = graph.add("add", { a: sum, b: norm }, "again");
    const given = { a: floats([tokens, width], 1), b: floats([tokens, width], 2) };
    const [first, second, third] = await both(graph.finish([sum, norm, again]), given);
    assertExact(first);
    assertLess(relative(second), ROUNDING);
    assertLess(relative(third), ROUNDING);
  }
});

Deno.test("a norm in groups, or of another value, is not fused with the addition before it", async () => {
  const graph = new GraphBuilder();
  const [a, b] = ["a", "b"].map((name) => graph.input(name, "float32", ["tokens", 32]));
  const sum = graph.add("add", { a, b }, "sum");
  const gamma = graph.parameter("gamma", [8]);
  const grouped = graph.add("rmsNorm", { x: sum, gamma, eps: 1e-5, groups: 4 }, "grouped");
  const twice = graph.add("add", { a: sum, b }, "twice");
  const wide = graph.parameter("wide", [32]);
  const other = graph.add("rmsNorm", { x: a, gamma: wide, eps: 1e-5, groups: 1 }, "other");
  const given = { a: floats([3, 32], 1), b: floats([3, 32], 2) };
  for (const pair of await both(graph.finish([sum, grouped, twice, other]), given)) {
    assertLess(relative(pair), ROUNDING);
  }
});

Deno.test("linear multiplies by weights side by side and adds biases", async () => {
  for (const outputs of [[48], [32, 16], [64, 16, 16]]) {
    for (const biased of [false, true]) {
      const graph = new GraphBuilder();
      const x = graph.input("x", "float32", ["tokens", 96]);
      const weights = outputs.map((out, i) => graph.parameter(`w${i}`, [out, 96]));
      const biases = biased ? outputs.map((out, i) => graph.parameter(`b${i}`, [out])) : [];
      const finished = graph.finish([graph.add("linear", { x, weights, biases }, "out")]);
      for (const tokens of [1, 9]) {
        const [pair] = await both(finished, { x: floats([tokens, 96], tokens) });
        assertLess(relative(pair), ROUNDING);
      }
    }
  }
});

/** LoTR over a packed linear's outputs: module m adapts `sizes[m]` columns from `offsets[m]` on. */
interface Branch {
  readonly rank: number;
  readonly width: number;
  readonly sizes: readonly number[];
  readonly offsets: readonly number[];
  readonly batch: number;
  readonly time: number;
}

const BRANCHES: readonly Branch[] = [
  { rank: 1, width: 40, sizes: [40], offsets: [0], batch: 1, time: 1 },
  { rank: 16, width: 64, sizes: [32, 16], offsets: [0, 48], batch: 5, time: 1 },
  { rank: 16, width: 64, sizes: [32, 16, 16], offsets: [0, 32, 48], batch: 1, time: 7 },
  { rank: 64, width: 96, sizes: [64], offsets: [32], batch: 3, time: 4 },
  { rank: 4, width: 64, sizes: [16, 8, 8, 16], offsets: [0, 16, 24, 48], batch: 4, time: 3 },
];

async function branch({ rank, width, sizes, offsets, batch, time }: Branch, seed: number) {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", 48]);
  const y = graph.input("y", "float32", ["tokens", width]);
  const cores = graph.input("cores", "float32", ["batch", rank, sizes.length * rank]);
  const grid = graph.input("grid", "int64", [2]);
  const a = graph.parameter("a", [48, rank]);
  const b = sizes.map((size, m) => graph.parameter(`b${m}`, [rank, size]));
  const out = graph.add("lotr", { x, y, a, cores, b, offsets, grid }, "out");
  return await both(graph.finish([out]), {
    x: floats([batch * time, 48], seed),
    y: floats([batch * time, width], seed + 1),
    cores: floats([batch, rank, sizes.length * rank], seed + 2),
    grid: ints(batch, time),
  });
}

Deno.test("lotr adds each row's own core, at ranks 1 to 64, for 1 to 4 modules", async () => {
  for (const [i, shape] of BRANCHES.entries()) {
    const [pair] = await branch(shape, i * 10);
    assertLess(relative(pair), ROUNDING, JSON.stringify(shape));
  }
});

Deno.test("lotr leaves columns of no module untouched", async () => {
  const shape = { rank: 2, width: 30, sizes: [5], offsets: [10], batch: 2, time: 2 };
  const [{ lowered }] = await branch(shape, 3);
  const y = floats([4, 30], 4).data;
  lowered.forEach((value, i) => {
    if (i % 30 < 10 || i % 30 >= 15) assertEquals(value, y[i]);
  });
});

Deno.test("glu gates one half by the other, by either activation", async () => {
  const sizes = [[1, 8], [5, 96], [17, 1536]];
  const forms = (["silu", "gelu_tanh"] as const).flatMap((activation) =>
    sizes.map(([tokens, width]) => ({ tokens, width, activation }))
  );
  for (const { tokens, width, activation } of forms) {
    const graph = new GraphBuilder();
    const x = graph.input("x", "float32", ["tokens", 2 * width]);
    const finished = graph.finish([graph.add("glu", { x, activation }, "out")]);
    const [pair] = await both(finished, { x: floats([tokens, 2 * width], 1, 4) });
    assertLess(relative(pair), ROUNDING);
  }
});

Deno.test("columns, concat and rows move numbers and change none", async () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", 20]);
  const index = graph.input("index", "int32", ["rows"]);
  const left = graph.add("columns", { x, start: 0, size: 7 }, "left");
  const right = graph.add("columns", { x, start: 13, size: 7 }, "right");
  const swapped = graph.add("concat", { parts: [right, x, left] }, "swapped");
  const some = graph.add("rows", { x: swapped, index }, "some");
  const given = { x: floats([6, 20], 1), index: ints(5, 0, 0, 3) };
  for (const pair of await both(graph.finish([left, right, swapped, some]), given)) {
    assertExact(pair);
  }
});

/** A random chain of operations over [tokens, width] values, each of which is an output. */
class Chain {
  readonly #graph = new GraphBuilder();
  readonly #next: () => number;
  readonly #values: Value[];
  readonly #batch: number;
  readonly #time: number;
  readonly #given: Record<string, Evaluated> = {};
  readonly #grid: Value;

  constructor(seed: number) {
    this.#next = normal(seed);
    this.#batch = 1 + this.#below(4);
    this.#time = 1 + this.#below(5);
    this.#grid = this.#graph.input("grid", "int64", [2]);
    this.#given.grid = ints(this.#batch, this.#time);
    this.#values = [this.#input("x", 8 * (1 + this.#below(6)))];
  }

  build(length: number): { readonly graph: Graph; readonly given: Inputs } {
    for (let i = 0; i < length; i++) this.#values.push(this.#step(`v${i}`));
    return { graph: this.#graph.finish(this.#values.slice(1)), given: this.#given };
  }

  #step(name: string): Value {
    const graph = this.#graph;
    const x = this.#values[this.#below(this.#values.length)];
    const width = Number(x.shape[1]);
    switch (this.#below(7)) {
      case 0: {
        const groups = [1, 2, 4][this.#below(3)];
        if (width % groups !== 0) return graph.add("add", { a: x, b: x }, name);
        const gamma = graph.parameter(`${name}.gamma`, [width / groups]);
        return graph.add("rmsNorm", { x, gamma, eps: 1e-5, groups }, name);
      }
      case 1: {
        const sizes = Array.from({ length: 1 + this.#below(3) }, () => 4 * (1 + this.#below(9)));
        const weights = sizes.map((size, i) => graph.parameter(`${name}.w${i}`, [size, width]));
        const biases = this.#below(2) === 0
          ? []
          : sizes.map((size, i) => graph.parameter(`${name}.b${i}`, [size]));
        return graph.add("linear", { x, weights, biases }, name);
      }
      case 2:
        return this.#lotr(name, x);
      case 3:
        return width % 2 === 0
          ? graph.add("glu", { x }, name)
          : graph.add("columns", { x, start: 0, size: 1 }, name);
      case 4: {
        const size = 1 + this.#below(width);
        return graph.add("columns", { x, start: this.#below(width - size + 1), size }, name);
      }
      case 5:
        return graph.add("concat", { parts: [x, this.#input(`${name}.in`, 3), x] }, name);
      default:
        return graph.add("add", { a: x, b: this.#input(`${name}.in`, width) }, name);
    }
  }

  #lotr(name: string, x: Value): Value {
    const graph = this.#graph;
    const y = this.#values[this.#below(this.#values.length)];
    const width = Number(y.shape[1]);
    const rank = 1 + this.#below(9);
    const size = 1 + this.#below(width);
    const offset = this.#below(width - size + 1);
    const a = graph.parameter(`${name}.a`, [Number(x.shape[1]), rank]);
    const b = [graph.parameter(`${name}.b`, [rank, size])];
    const cores = graph.input(`${name}.cores`, "float32", ["batch", rank, rank]);
    this.#given[cores.name] = floats([this.#batch, rank, rank], this.#below(1000), 0.3);
    return graph.add("lotr", { x, y, a, cores, b, offsets: [offset], grid: this.#grid }, name);
  }

  #input(name: string, width: number): Value {
    this.#given[name] = floats([this.#batch * this.#time, width], this.#below(1000));
    return this.#graph.input(name, "float32", ["tokens", width]);
  }

  #below(limit: number): number {
    return Math.floor(Math.abs(this.#next()) * 1e6) % limit;
  }
}

// Up to eight operations on top of one another, gains of gated products included.
const CHAIN_ROUNDING = 1e-4;

Deno.test("random chains of operations follow the evaluator", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { graph, given } = new Chain(seed).build(8);
    const pairs = await both(graph, given);
    for (const [i, pair] of pairs.entries()) {
      const { op } = graph.nodes[i];
      assertLess(relative(pair), CHAIN_ROUNDING, `seed ${seed}, output ${i}, ${op}`);
    }
  }
});
