/**
 * Attention, lowered to ONNX Runtime's CPU kernel, against the naive evaluator: outputs and the
 * caches it writes in place. Outside the tokens that a row holds, caches are full of large numbers
 * that nothing may read; outputs of padding mean nothing and are not compared.
 *
 * Tolerance: float32 dot products of one head and a softmax over up to 70 positions, absolute, on
 * values of size 1: the kernel's exponential is a polynomial of about 1e-6.
 */
import { assertEquals, assertLess } from "@std/assert";
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import { type Graph, GraphBuilder } from "../../src/graph/graph.ts";
import { DEVICE } from "./device.ts";
import { distance, FLOAT32, normal, randomArray, RandomParameters, runLowered } from "./run.ts";

const TOLERANCE = 2e-5;
const GARBAGE = 1e3;

interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly window?: number;
  readonly scale?: number;
}

/** Rows of one run: tokens each has already, and tokens each computes (padded to the most). */
interface Rows {
  readonly past: readonly number[];
  readonly fresh: readonly number[];
  readonly capacity: number;
}

const PLAIN: Heads = { heads: 2, kvHeads: 2, headDim: 16 };
const GROUPED: Heads = { heads: 9, kvHeads: 3, headDim: 64 };
const WINDOWED: Heads = { heads: 4, kvHeads: 1, headDim: 32, window: 5 };
const SCALED: Heads = { heads: 4, kvHeads: 2, headDim: 32, scale: 0.3 };

function build({ heads, kvHeads, headDim, window, scale = 1 }: Heads, positions: number): Graph {
  const graph = new GraphBuilder();
  const cache = ["batch", kvHeads, "capacity", headDim];
  const args = {
    qkv: graph.input("qkv", "float32", ["tokens", (heads + 2 * kvHeads) * headDim]),
    keys: graph.state("keys", "float32", cache),
    values: graph.state("values", "float32", cache),
    lengths: graph.input("lengths", "int32", ["batch"]),
    total: graph.input("total", "int32", [1]),
    cos: graph.parameter("cos", [positions, headDim / 2]),
    sin: graph.parameter("sin", [positions, headDim / 2]),
    grid: graph.input("grid", "int64", [2]),
    ...{ heads, kvHeads, headDim, window, scale },
  };
  return graph.finish([graph.add("attention", args, "out")]);
}

function inputsOf(shape: Heads, { past, fresh, capacity }: Rows, seed: number) {
  const { heads, kvHeads, headDim } = shape;
  const [batch, time] = [past.length, Math.max(...fresh)];
  const width = (heads + 2 * kvHeads) * headDim;
  const ends = past.map((tokens, row) => tokens + fresh[row]);
  const total = Math.max(...past.map((tokens) => tokens + time));
  const cache = (which: number) => {
    const data = new Float32Array(batch * kvHeads * capacity * headDim).fill(GARBAGE);
    forEachToken(shape, past, capacity, (start) => {
      data.set(randomArray(headDim, seed + start + which), start);
    });
    return { shape: [batch, kvHeads, capacity, headDim], data };
  };
  const ints = (values: number[]): Evaluated => ({
    shape: [values.length],
    data: Int32Array.from(values),
  });
  return {
    qkv: { shape: [batch * time, width], data: randomArray(batch * time * width, seed) },
    keys: cache(1),
    values: cache(2),
    lengths: ints(ends.map((end) => end - 1)),
    total: ints([total]),
    grid: ints([batch, time]),
  };
}

/** Visits where each held token of each row and head begins in a cache. */
function forEachToken(
  { kvHeads, headDim }: Heads,
  held: readonly number[],
  capacity: number,
  visit: (start: number) => void,
): void {
  held.forEach((tokens, row) => {
    for (let head = 0; head < kvHeads; head++) {
      for (let t = 0; t < tokens; t++) visit(((row * kvHeads + head) * capacity + t) * headDim);
    }
  });
}

/** The largest difference over outputs of real tokens and over the caches' held tokens. */
async function errorOf(shape: Heads, rows: Rows, seed: number): Promise<number> {
  const { heads, headDim } = shape;
  const { past, fresh, capacity } = rows;
  const graph = build(shape, capacity);
  const parameters = new RandomParameters(graph);
  const given = inputsOf(shape, rows, seed);
  const naive = structuredClone(given);
  const [expected] = evaluate(graph, naive, parameters);
  const [out] = await runLowered(DEVICE, graph, given, parameters, FLOAT32, [expected.shape]);
  const time = Math.max(...fresh);
  const width = heads * headDim;
  let worst = 0;
  fresh.forEach((count, row) => {
    const [from, to] = [row * time * width, (row * time + count) * width];
    worst = Math.max(worst, distance(out.subarray(from, to), expected.data.subarray(from, to)));
  });
  const held = past.map((tokens, row) => tokens + fresh[row]);
  for (const name of ["keys", "values"] as const) {
    forEachToken(shape, held, capacity, (start) => {
      const [a, b] = [given, naive].map((all) => all[name].data.subarray(start, start + headDim));
      worst = Math.max(worst, distance(a, b));
    });
  }
  return worst;
}

const SHAPES: Readonly<Record<string, Heads>> = { PLAIN, GROUPED, WINDOWED, SCALED };

const RUNS: Readonly<Record<string, readonly Rows[]>> = {
  "first prompts, ragged and padded on the right": [
    { past: [0], fresh: [1], capacity: 4 },
    { past: [0], fresh: [9], capacity: 16 },
    { past: [0, 0, 0], fresh: [7, 7, 7], capacity: 7 },
    { past: [0, 0, 0, 0], fresh: [3, 12, 1, 5], capacity: 20 },
    { past: [0, 0], fresh: [33, 70], capacity: 80 },
  ],
  "decode steps of ragged rows": [
    { past: [0], fresh: [1], capacity: 4 },
    { past: [5], fresh: [1], capacity: 8 },
    { past: [3, 0, 17, 8, 1], fresh: [1, 1, 1, 1, 1], capacity: 18 },
    { past: [69, 40], fresh: [1, 1], capacity: 70 },
  ],
  "a chunk of one row after its past": [
    { past: [1], fresh: [2], capacity: 8 },
    { past: [7], fresh: [6], capacity: 16 },
    { past: [40], fresh: [23], capacity: 64 },
  ],
};

for (const [what, runs] of Object.entries(RUNS)) {
  for (const [name, shape] of Object.entries(SHAPES)) {
    Deno.test(`attention follows the formula: ${what}, ${name.toLowerCase()} heads`, async () => {
      for (const [i, rows] of runs.entries()) {
        assertLess(await errorOf(shape, rows, i * 100), TOLERANCE, JSON.stringify(rows));
      }
    });
  }
}

Deno.test("attention of random shapes follows the formula", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    const next = normal(seed);
    const below = (limit: number) => Math.floor(Math.abs(next()) * 1e6) % limit;
    const kvHeads = 1 + below(3);
    const shape: Heads = {
      heads: kvHeads * (1 + below(4)),
      kvHeads,
      headDim: 16 * (1 + below(4)),
      scale: 0.1 + below(10) / 10,
      ...(below(3) === 0 ? { window: 1 + below(12) } : {}),
    };
    const batch = 1 + below(5);
    const many = (pick: () => number) => Array.from({ length: batch }, pick);
    const rows = [
      { past: many(() => 0), fresh: many(() => 1 + below(20)), capacity: 40 },
      { past: many(() => below(39)), fresh: many(() => 1), capacity: 40 },
      { past: [1 + below(20)], fresh: [2 + below(18)], capacity: 40 },
    ][below(3)];
    const what = `seed ${seed}: ${JSON.stringify({ shape, rows })}`;
    assertLess(await errorOf(shape, rows, seed * 1000), TOLERANCE, what);
  }
});

Deno.test("the evaluator attends as computed by hand", () => {
  // One head of two dimensions, no rotation; scores of the second token are 0 and ln 3.
  const graph = build({ heads: 1, kvHeads: 1, headDim: 2 }, 4);
  const parameters = { read: (name: string) => new Float32Array(4).fill(name === "cos" ? 1 : 0) };
  const ints = (...values: number[]) => ({ shape: [values.length], data: Int32Array.from(values) });
  const given = {
    qkv: {
      shape: [2, 6],
      data: Float64Array.of(5, 5, 0, 1, 4, 8, Math.log(3), 0, 1, 7, 8, 0),
    },
    keys: { shape: [1, 1, 4, 2], data: new Float64Array(8) },
    values: { shape: [1, 1, 4, 2], data: new Float64Array(8) },
    lengths: ints(1),
    total: ints(2),
    grid: ints(1, 2),
  };
  const [{ data }] = evaluate(graph, given, parameters);
  assertLess(distance(data, [4, 8, 7, 2]), 1e-12);
  assertEquals(given.keys.data.slice(0, 4), Float64Array.of(0, 1, 1, 7));
  assertEquals(given.values.data.slice(0, 4), Float64Array.of(4, 8, 8, 0));
});
