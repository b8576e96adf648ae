/**
 * LoRA's branch, lowered to ONNX Runtime's CPU kernels, against the naive evaluator and against what
 * it means: `x · Aᵀ · Bᵀ` of whole adapters. Tolerances as in `ops_test.ts`.
 */
import { assertEquals, assertLess } from "@std/assert";
import { GraphBuilder } from "../../src/graph/graph.ts";
import { SHAPES } from "../../src/graph/shapes.ts";
import { both, floats, relative } from "./pairs.ts";

const ROUNDING = 1e-5;
const INPUTS = 48;

/** A site: module m adapts `sizes[m]` of `width` columns from `offsets[m]` on. */
interface Site {
  readonly width: number;
  readonly sizes: readonly number[];
  readonly offsets: readonly number[];
}

/** Where tokens and pieces meet: `cells` [K][R·W], `places` [T][P]. */
interface Meeting {
  /** Tokens of one product; default 1, as in a decode step. */
  readonly time?: number;
  readonly cells: readonly (readonly number[])[];
  readonly places: readonly (readonly number[])[];
}

const SITES: readonly Site[] = [
  { width: 40, sizes: [40], offsets: [0] },
  { width: 64, sizes: [32, 16, 16], offsets: [0, 32, 48] },
  { width: 64, sizes: [32, 16], offsets: [0, 48] },
  { width: 64, sizes: [16], offsets: [32] },
  { width: 64, sizes: [16], offsets: [48] },
  { width: 96, sizes: [48, 48], offsets: [0, 48] },
];

/** Piece 0 is zeros. */
const MEETINGS: readonly Meeting[] = [
  // three rows, the middle one without an adapter, the last with two pieces
  { cells: [[1], [0], [2], [2]], places: [[1, 0], [0, 0], [2, 3]] },
  // one adapter of one piece for two rows, another for one: a cell is empty
  { cells: [[0, 0], [0, 2], [1, 0]], places: [[2], [4], [3]] },
  // a prompt of five tokens with three pieces
  {
    time: 5,
    cells: [[0, 0, 0, 0, 0], ...[1, 2, 3].map(() => [0, 1, 2, 3, 4])],
    places: [0, 1, 2, 3, 4].map((t) => [5 + t, 10 + t, 15 + t]),
  },
  // nobody has one
  { cells: [[0]], places: [[0], [0]] },
];

const PIECE = 8;

async function branch({ width, sizes, offsets }: Site, { time = 1, cells, places }: Meeting) {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["tokens", INPUTS]);
  const y = graph.input("y", "float32", ["tokens", width]);
  const a = sizes.map((_, m) => graph.input(`a${m}`, "float32", ["pieces", 1, INPUTS, PIECE]));
  const b = sizes.map((size, m) => graph.input(`b${m}`, "float32", ["pieces", 1, PIECE, size]));
  const index = {
    cells: graph.input("cells", "int32", ["pieces", "rows", "time"]),
    places: graph.input("places", "int32", ["tokens", "each"]),
  };
  const out = graph.add("lora", { x, y, a, b, offsets, ...index }, "out");
  const [pieces, tokens] = [cells.length, places.length];
  const given = {
    x: floats([tokens, INPUTS], 1),
    y: floats([tokens, width], 2),
    ...Object.fromEntries(sizes.flatMap((size, m) => [
      [`a${m}`, withoutFirst(floats([pieces, 1, INPUTS, PIECE], 3 + m))],
      [`b${m}`, withoutFirst(floats([pieces, 1, PIECE, size], 13 + m))],
    ])),
    cells: ints(cells, cells[0].length / time, time),
    places: ints(places),
  };
  const [pair] = await both(graph.finish([out]), given);
  return { pair, given };
}

Deno.test("lora adds each token's own pieces, and nothing to tokens that have none", async () => {
  for (const site of SITES) {
    for (const meeting of MEETINGS) {
      const { pair } = await branch(site, meeting);
      assertLess(relative(pair), ROUNDING, JSON.stringify({ site, meeting }));
    }
  }
});

Deno.test("lora leaves y as it is, bit by bit, where a token has none and in columns of no module", async () => {
  const site = { width: 64, sizes: [16], offsets: [32] };
  const { pair: { lowered }, given: { y } } = await branch(site, MEETINGS[0]);
  const kept = (i: number) => Math.floor(i / 64) === 1 || i % 64 < 32 || i % 64 >= 48;
  lowered.forEach((value, i) => {
    if (kept(i)) assertEquals(value, y.data[i]);
  });
});

Deno.test("the naive lora is x · A · B of the pieces side by side", async () => {
  const { pair: { naive }, given } = await branch(SITES[0], MEETINGS[2]);
  const { x, y, a0, b0 } = given as Record<string, ReturnType<typeof floats>>;
  naive.data.forEach((value, i) => {
    const [token, column] = [Math.floor(i / 40), i % 40];
    let sum = y.data[i];
    for (let k = 1; k < 4; k++) {
      for (let r = 0; r < PIECE; r++) {
        let u = 0;
        for (let j = 0; j < INPUTS; j++) {
          u += x.data[token * INPUTS + j] * a0.data[(k * INPUTS + j) * PIECE + r];
        }
        sum += u * b0.data[(k * PIECE + r) * 40 + column];
      }
    }
    assertLess(Math.abs(sum - value), 1e-9);
  });
});

Deno.test("lora's shapes must fit", () => {
  const value = (shape: (number | string)[], dtype: "float32" | "int32" = "float32") => ({
    ...{ id: 0, name: "v", dtype, shape, kind: "input" as const },
  });
  const good = {
    x: value(["T", 6]),
    y: value(["T", 9]),
    a: [value(["K", 1, 6, 8])],
    b: [value(["K", 1, 8, 4])],
    offsets: [5],
    cells: value(["K", "R", "W"], "int32"),
    places: value(["T", "P"], "int32"),
  };
  assertEquals(SHAPES.lora(good).shape, ["T", 9]);
  const wrong = (args: Partial<typeof good>) => {
    try {
      SHAPES.lora({ ...good, ...args });
    } catch (error) {
      return error instanceof TypeError;
    }
    return false;
  };
  assertEquals([
    wrong({ cells: value(["K", "R", "W"]) }),
    wrong({ places: value(["T"], "int32") }),
    wrong({ a: [value(["K", 1, 5, 8])] }),
    wrong({ b: [value(["K", 1, 7, 4])] }),
    wrong({ b: [] }),
    wrong({ offsets: [6] }),
  ], [true, true, true, true, true, true]);
});

/** Its first piece is the piece of those that have none. */
function withoutFirst(pieces: ReturnType<typeof floats>): ReturnType<typeof floats> {
  pieces.data.fill(0, 0, pieces.data.length / pieces.shape[0]);
  return pieces;
}

/** Rows of integers, by default [rows, columns]. */
function ints(rows: readonly (readonly number[])[], ...inner: readonly number[]) {
  const shape = [rows.length, ...inner.length === 0 ? [rows[0].length] : inner];
  return { shape, data: Int32Array.from(rows.flat()) };
}
