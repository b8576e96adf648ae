/** Shape rules of training's operations: what does not fit is refused, naming operation and shapes. */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { Value } from "../../src/graph/ops.ts";
import { SHAPES } from "../../src/graph/shapes.ts";

/** Values of given shapes, without a graph around them. */
function value(shape: readonly (number | string)[], dtype: Value["dtype"] = "float32"): Value {
  return { id: 0, name: "it", dtype, shape, kind: "input" };
}

const WIDE = value(["T", 12]);
const NARROW = value(["T", 3]);
const VECTOR = value(["R"]);
const INDEX = value(["R"], "int32");
const GRID = value([2], "int64");
const CORES = value(["N", 3, 6]);
const FORM = {
  cos: value([9, 8]),
  sin: value([9, 8]),
  grid: GRID,
  heads: 2,
  kvHeads: 1,
  headDim: 16,
  scale: 1,
  window: undefined,
};

/** What does not fit, and what the message must name. */
const MISFITS: readonly (readonly [string, () => unknown, readonly string[]])[] = [
  [
    "qkv of another width",
    () => SHAPES.causalAttention({ ...FORM, qkv: WIDE }),
    ["causalAttention", "[T, 64]", "[T, 12]"],
  ],
  [
    "a gradient of another width than the heads'",
    () => {
      const qkv = value(["T", 64]);
      return SHAPES.causalAttentionGrad({ ...FORM, qkv, out: value(["T", 32]), dy: WIDE });
    },
    ["causalAttentionGrad", "[T, 32]", "[T, 12]"],
  ],
  ["targets of floats", () => SHAPES.nll({ logits: WIDE, targets: VECTOR }), ["nll", "int32"]],
  ["logits in a vector", () => SHAPES.hits({ logits: VECTOR, targets: INDEX }), ["hits", "[R]"]],
  [
    "a loss gradient a token and feature",
    () => SHAPES.nllGrad({ logits: WIDE, targets: INDEX, dy: WIDE }),
    ["nllGrad", "[R]", "[T, 12]"],
  ],
  [
    "a teacher's shares without the rest's",
    () => SHAPES.kl({ logits: WIDE, tokens: value(["T", 4], "int32"), shares: value(["T", 4]) }),
    ["kl", "shares [R, 5]", "[T, 4]"],
  ],
  [
    "a teacher's tokens as floats",
    () => SHAPES.kl({ logits: WIDE, tokens: value(["T", 4]), shares: value(["T", 5]) }),
    ["kl", "tokens [R, K] int32"],
  ],
  [
    "a gradient narrower than the weights are high",
    () => SHAPES.linearGrad({ dy: WIDE, weights: [value([6, 5]), value([7, 5])] }),
    ["linearGrad", "[T, 13]", "[T, 12]"],
  ],
  [
    "a gradient of another shape than its norm's input",
    () => SHAPES.rmsNormGrad({ x: WIDE, dy: NARROW, gamma: value([12]), eps: 0, groups: 1 }),
    ["rmsNormGrad", "[T, 12]", "[T, 3]"],
  ],
  [
    "a gamma too long for its groups",
    () => SHAPES.rmsNormGrad({ x: WIDE, dy: WIDE, gamma: value([12]), eps: 0, groups: 2 }),
    ["rmsNormGrad", "gamma [6]"],
  ],
  [
    "a gradient as wide as both halves",
    () => SHAPES.gluGrad({ x: WIDE, dy: WIDE }),
    ["gluGrad", "[T, 6]", "[T, 12]"],
  ],
  [
    "a gate narrower than what it lets through",
    () => SHAPES.gated({ gate: NARROW, up: WIDE }),
    ["gated", "[T, 3]", "[T, 12]"],
  ],
  [
    "a gradient of another width than its gate",
    () => SHAPES.gatedGrad({ gate: WIDE, up: WIDE, dy: NARROW }),
    ["gatedGrad", "[T, 12]", "[T, 3]"],
  ],
  [
    "columns past the end",
    () => SHAPES.spread({ x: NARROW, start: 10, width: 12 }),
    ["spread", "at most 2", "[T, 3]"],
  ],
  [
    "an index of floats",
    () => SHAPES.scatterRows({ x: WIDE, index: VECTOR, like: WIDE }),
    ["scatterRows", "int32"],
  ],
  [
    "rows of another width than they go to",
    () => SHAPES.scatterRows({ x: NARROW, index: INDEX, like: WIDE }),
    ["scatterRows", "[R, 12]", "[T, 3]"],
  ],
  [
    "a factor of other inputs",
    () => SHAPES.project({ x: WIDE, w: value([11, 2]) }),
    ["project", "[12, n]", "[11, 2]"],
  ],
  [
    "a factor of other outputs",
    () => SHAPES.projectGrad({ dy: WIDE, w: value([2, 11]) }),
    ["projectGrad", "[k, 12]", "[2, 11]"],
  ],
  ["vectors to multiply", () => SHAPES.outer({ a: VECTOR, b: WIDE }), ["outer", "[R]"]],
  [
    "cores of another rank",
    () => SHAPES.coreProduct({ u: WIDE, cores: CORES, grid: GRID }),
    ["coreProduct", "[N, 12, m·r]", "[N, 3, 6]"],
  ],
  [
    "a gradient of more modules than the cores have",
    () => SHAPES.coreProductGrad({ dv: WIDE, cores: CORES, grid: GRID }),
    ["coreProductGrad", "[N, r, 12]", "[N, 3, 6]"],
  ],
  [
    "factors that do not make the cores' shape",
    () => SHAPES.coreGrad({ u: NARROW, dv: WIDE, cores: CORES, grid: GRID }),
    ["coreGrad", "[N, 3, 6]"],
  ],
  [
    "a B out of bounds",
    () => SHAPES.lotrGrad({ dy: WIDE, b: [value([3, 8])], offsets: [5] }),
    ["lotrGrad", "12 columns", "[3, 8]"],
  ],
];

for (const [what, infer, named] of MISFITS) {
  Deno.test(`a training node with ${what} is refused, naming operation and shapes`, () => {
    const { message } = assertThrows(infer, TypeError);
    for (const part of named) assertStringIncludes(message, part);
  });
}

Deno.test("gradients have the shape of what they are by", () => {
  const dy = value(["T", 8]);
  assertEquals(SHAPES.linearGrad({ dy, weights: [value([8, 5])] }).shape, ["T", 5]);
  assertEquals(SHAPES.outer({ a: dy, b: WIDE }).shape, [8, 12]);
  assertEquals(SHAPES.gluGrad({ x: value(["T", 16]), dy }).shape, ["T", 16]);
  assertEquals(SHAPES.spread({ x: NARROW, start: 2, width: 9 }).shape, ["T", 9]);
  const logits = value(["R", 50]);
  assertEquals(SHAPES.nll({ logits, targets: INDEX }).shape, ["R"]);
  assertEquals(SHAPES.nllGrad({ logits, targets: INDEX, dy: VECTOR }).shape, ["R", 50]);
  const taught = { tokens: value(["R", 3], "int32"), shares: value(["R", 4]) };
  assertEquals(SHAPES.kl({ logits, ...taught }).shape, ["R"]);
  assertEquals(SHAPES.klGrad({ logits, ...taught, dy: value(["R"]) }).shape, ["R", 50]);
  const head = { p: logits, weight: value([50, 8]), dy: value(["R"]) };
  assertEquals(SHAPES.klHeadGrad({ ...head, ...taught }).shape, ["R", 8]);
  const dv = value(["T", 6]);
  assertEquals(SHAPES.coreGrad({ u: NARROW, dv, cores: CORES, grid: GRID }).shape, ["N", 3, 6]);
  const b = [value([3, 4]), value([3, 5])];
  assertEquals(SHAPES.lotrGrad({ dy: WIDE, b, offsets: [0, 4] }).shape, ["T", 6]);
});
