/** The shape rules of operations: what fits nothing is refused, and says why. */
import { assertEquals, assertThrows } from "@std/assert";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import type { Value } from "../../src/graph/ops.ts";
import { SHAPES } from "../../src/graph/shapes.ts";
import { RandomParameters } from "./run.ts";

/** Values of given shapes, without a graph around them. */
function value(shape: readonly (number | string)[], dtype: Value["dtype"] = "float32"): Value {
  return { id: 0, name: "it", dtype, shape, kind: "input" };
}

const WIDE = value(["T", 12]);
const COUNTS = value(["N"], "int32");
const ATTENTION = {
  qkv: value(["T", 64]),
  keys: value(["N", 1, "S", 16]),
  values: value(["N", 1, "S", 16]),
  lengths: COUNTS,
  total: value([1], "int32"),
  cos: value([9, 8]),
  sin: value([9, 8]),
  grid: value([2], "int64"),
  heads: 2,
  kvHeads: 1,
  headDim: 16,
  scale: 1,
  window: undefined,
};
const LOTR = {
  x: WIDE,
  y: value(["T", 8]),
  a: value([12, 2]),
  cores: value(["N", 2, 2]),
  b: [value([2, 8])],
  offsets: [0],
  grid: value([2], "int64"),
};

/** What does not fit, and what the message must name. */
const MISFITS: readonly (readonly [string, () => unknown, readonly string[]])[] = [
  ["ids of floats", () => SHAPES.embed({ ids: WIDE, table: WIDE }), [
    "embed",
    "float32",
    "[T, 12]",
  ]],
  ["a flat table", () => SHAPES.embed({ ids: COUNTS, table: COUNTS }), ["embed", "[N]"]],
  [
    "a gamma too long",
    () => SHAPES.rmsNorm({ x: WIDE, gamma: value([12]), eps: 0, groups: 2 }),
    ["rmsNorm", "gamma [6]", "[12]"],
  ],
  [
    "a weight of other inputs",
    () => SHAPES.linear({ x: WIDE, weights: [value([4, 13])], biases: [] }),
    ["linear", "[d_out, 12]", "[4, 13]"],
  ],
  [
    "a bias too few",
    () => {
      const weights = [value([4, 12]), value([4, 12])];
      return SHAPES.linear({ x: WIDE, weights, biases: [value([4])] });
    },
    ["linear", "1"],
  ],
  [
    "a bias too long",
    () => SHAPES.linear({ x: WIDE, weights: [value([4, 12])], biases: [value([5])] }),
    ["linear", "bias [4]", "[5]"],
  ],
  ["an A of other inputs", () => SHAPES.lotr({ ...LOTR, a: value([9, 2]) }), ["lotr", "[9, 2]"]],
  [
    "cores of another rank",
    () => SHAPES.lotr({ ...LOTR, cores: value(["N", 3, 3]) }),
    ["lotr", "cores [N, 2, 2]", "[N, 3, 3]"],
  ],
  ["a B out of bounds", () => SHAPES.lotr({ ...LOTR, offsets: [1] }), ["lotr", "8 columns"]],
  ["a B without its place", () => SHAPES.lotr({ ...LOTR, offsets: [] }), ["lotr", "[2, 8]"]],
  [
    "qkv of another width",
    () => SHAPES.attention({ ...ATTENTION, qkv: WIDE }),
    ["attention", "[T, 64]", "[T, 12]"],
  ],
  [
    "a cache of other heads",
    () => SHAPES.attention({ ...ATTENTION, keys: value(["N", 2, "S", 16]) }),
    ["attention", "[N, 2, S, 16]"],
  ],
  [
    "a rotation table of another width",
    () => SHAPES.attention({ ...ATTENTION, sin: value([9, 16]) }),
    ["attention", "[P, at most 8]", "[9, 16]"],
  ],
  [
    "lengths of floats",
    () => SHAPES.attention({ ...ATTENTION, lengths: value(["N"]) }),
    ["attention", "int32", "float32"],
  ],
  ["unequal terms", () => SHAPES.add({ a: WIDE, b: value(["T", 3]) }), [
    "add",
    "[T, 12]",
    "[T, 3]",
  ]],
  ["a vector to gate", () => SHAPES.glu({ x: COUNTS }), ["glu", "[N]"]],
  [
    "columns past the end",
    () => SHAPES.columns({ x: WIDE, start: 8, size: 5 }),
    ["columns", "13", "[T, 12]"],
  ],
  ["parts without columns", () => SHAPES.concat({ parts: [COUNTS] }), ["concat", "[N]"]],
  ["an index of floats", () => SHAPES.rows({ x: WIDE, index: WIDE }), ["rows", "int32"]],
];

for (const [what, infer, named] of MISFITS) {
  Deno.test(`a node with ${what} is refused, naming operation and shapes`, () => {
    const { message } = assertThrows(infer, TypeError);
    for (const part of named) assertEquals(message.includes(part), true, `${part}: ${message}`);
  });
}

Deno.test("a parameter has one shape, and an evaluation all its inputs", () => {
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["T", 4]);
  const weight = graph.parameter("w", [4, 4]);
  assertEquals(graph.parameter("w", [4, 4]), weight);
  assertThrows(() => graph.parameter("w", [4, 5]), TypeError, "[4, 5]");
  const finished = graph.finish([graph.add("linear", { x, weights: [weight], biases: [] }, "y")]);
  const parameters = new RandomParameters(finished);
  assertThrows(() => evaluate(finished, {}, parameters), TypeError, "input x is missing");
});
