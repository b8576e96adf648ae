/**
 * Attention over prefixes that rows share: equal to each row by itself with the prefix before it,
 * gradients included, and computed on the device as the formulas say.
 */
import { assertEquals, assertLess } from "@std/assert";
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import { type Graph, GraphBuilder } from "../../src/graph/graph.ts";
import { DEVICE } from "./device.ts";
import { distance, FLOAT32, randomArray, RandomParameters, runLowered } from "./run.ts";

const [HEADS, KV, DIM, POSITIONS] = [4, 2, 16, 32];
const WIDTH = (HEADS + 2 * KV) * DIM;
/** float32 sums of up to 20 products, as in the other attention tests. */
const ROUNDING = 2e-5;

/** Attention and its pullback, with or without shared rows. */
function attention(shared: "shared" | "whole", window: number | undefined): Graph {
  const graph = new GraphBuilder();
  const table = (name: string) => graph.parameter(name, [POSITIONS, DIM / 2]);
  const qkv = graph.input("qkv", "float32", ["tokens", WIDTH]);
  const dy = graph.input("dy", "float32", ["tokens", HEADS * DIM]);
  const form = {
    cos: table("cos"),
    sin: table("sin"),
    grid: graph.input("grid", "int64", [2]),
    heads: HEADS,
    kvHeads: KV,
    headDim: DIM,
    scale: 0.4,
    window,
  };
  const context = shared === "whole" ? {} : {
    context: graph.input("context", "int32", ["batch", "contexts"]),
    offsets: graph.input("offsets", "int32", ["batch"]),
  };
  const out = graph.add("causalAttention", { qkv, ...form, ...context }, "out");
  const grad = graph.add("causalAttentionGrad", { qkv, out, dy, ...form, ...context }, "dqkv");
  return graph.finish([out, grad]);
}

const ints = (shape: readonly number[], ...data: number[]): Evaluated => ({
  shape,
  data: Int32Array.from(data),
});

/** Rows 0 and 1 hold a prefix of `shared` tokens, rows 2 and 3 go on behind it, row 4 is alone. */
function sharedInputs(time: number, shared: number) {
  const tokens = 5 * time;
  const contexts = Math.ceil(shared / time);
  const dy = randomArray(tokens * HEADS * DIM, 2);
  // Nothing is lost at padding, and it has no gradient.
  for (let token = 0; token < 2 * time; token++) {
    if (token >= shared) dy.fill(0, token * HEADS * DIM, (token + 1) * HEADS * DIM);
  }
  const chain = (used: number) => Array.from({ length: contexts }, (_, i) => i < used ? i : 0);
  return {
    qkv: { shape: [tokens, WIDTH], data: randomArray(tokens * WIDTH, 1) },
    dy: { shape: [tokens, HEADS * DIM], data: dy },
    grid: ints([2], 5, time),
    context: ints([5, contexts], ...[0, 1, contexts, contexts, 0].flatMap(chain)),
    offsets: ints([5], 0, Math.min(time, shared), shared, shared, 0),
  };
}

/** A row written out: its prefix, then its own tokens. */
function whole(values: Evaluated, row: number, time: number, shared: number): Float64Array {
  const width = values.shape[1];
  const own = values.data.slice(row * time * width, (row + 1) * time * width);
  return Float64Array.from([...values.data.slice(0, shared * width), ...own]);
}

for (const window of [undefined, 3]) {
  for (const [time, shared] of [[6, 6], [6, 4], [4, 7], [5, 0]]) {
    Deno.test(`rows of ${time} behind ${shared} shared tokens attend as if each had its own, window ${window}`, () => {
      const given = sharedInputs(time, shared);
      const graph = attention("shared", window);
      const parameters = new RandomParameters(graph);
      parameters.read("cos");
      parameters.read("sin");
      const [out] = evaluate(graph, given, parameters);
      const length = shared + time;
      for (const row of [2, 3]) {
        const alone = attention("whole", window);
        const qkv = { shape: [length, WIDTH], data: whole(given.qkv, row, time, shared) };
        const dy = { shape: [length, HEADS * DIM], data: whole(given.dy, row, time, shared) };
        const inputs = { qkv, dy, grid: ints([2], 1, length) };
        const [wanted] = evaluate(alone, inputs, parameters);
        const got = whole(out, row, time, shared);
        assertLess(distance(got, wanted.data), 1e-12);
      }
    });

    Deno.test(`gradients by ${shared} shared tokens are the sum of what rows of ${time} give, window ${window}`, () => {
      const given = sharedInputs(time, shared);
      const graph = attention("shared", window);
      const parameters = new RandomParameters(graph);
      parameters.read("cos");
      parameters.read("sin");
      const [, grad] = evaluate(graph, given, parameters);
      const sum = new Float64Array(shared * WIDTH);
      for (const row of [2, 3]) {
        const length = shared + time;
        const qkv = { shape: [length, WIDTH], data: whole(given.qkv, row, time, shared) };
        const dy = { shape: [length, HEADS * DIM], data: whole(given.dy, row, time, shared) };
        // The prefix's own share is counted once.
        if (row === 3) dy.data.fill(0, 0, shared * HEADS * DIM);
        const inputs = { qkv, dy, grid: ints([2], 1, length) };
        const [, wanted] = evaluate(attention("whole", window), inputs, parameters);
        sum.forEach((_, i) => sum[i] += wanted.data[i]);
        const own = grad.data.slice(row * time * WIDTH, (row + 1) * time * WIDTH);
        assertLess(distance(own, wanted.data.slice(shared * WIDTH)), 1e-12);
      }
      assertLess(distance(grad.data.slice(0, shared * WIDTH), sum), 1e-12);
    });

    Deno.test(`attention of rows of ${time} behind ${shared} shared tokens is computed so, window ${window}`, async () => {
      const given = sharedInputs(time, shared);
      const graph = attention("shared", window);
      const parameters = new RandomParameters(graph);
      const shapes = [[5 * time, HEADS * DIM], [5 * time, WIDTH]];
      const got = await runLowered(DEVICE, graph, given, parameters, FLOAT32, shapes);
      const wanted = evaluate(graph, given, parameters);
      wanted.forEach(({ data }, i) => assertLess(distance(got[i], data), ROUNDING));
    });
  }
}

for (const window of [undefined, 3]) {
  Deno.test(`mask and positions made once are what attention makes for itself, window ${window}`, async () => {
    for (const [time, shared] of [[6, 6], [4, 7], [5, 0]]) {
      const graph = new GraphBuilder();
      const context = graph.input("context", "int32", ["batch", "contexts"]);
      const offsets = graph.input("offsets", "int32", ["batch"]);
      const grid = graph.input("grid", "int64", [2]);
      const mask = graph.add("attentionMask", { context, offsets, grid, window }, "mask");
      const positions = graph.add("positions", { offsets, grid }, "positions");
      const given = sharedInputs(time, shared);
      const keys = given.context.shape[1] * time + time;
      const [made] = await runLowered(
        DEVICE,
        graph.finish([mask]),
        given,
        new RandomParameters(graph.finish([])),
        FLOAT32,
        [[5, 1, time, keys]],
      );
      const [wanted, places] = evaluate(
        graph.finish([mask, positions]),
        given,
        new RandomParameters(graph.finish([])),
      );
      assertEquals(made, Float32Array.from(wanted.data));
      assertEquals(places.data[2 * time], shared);
    }
  });
}
