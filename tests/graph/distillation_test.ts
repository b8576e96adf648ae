/**
 * Following a teacher: the KL divergence by its likeliest tokens and the rest and both of its gradients,
 * lowered to ONNX Runtime's CPU kernels, against PyTorch and against the naive evaluator.
 *
 * Tolerances: losses are sums of float32 logarithms, of which the rest's is right to 2e-7 over what is
 * left, here 1e-3 and more: 3e-4 absolute. Gradients are largest difference over root mean square, 1e-4
 * for the same reason; with a head in int8 they are compared by their angle, as a head's are for `nll`.
 */
import { assert, assertAlmostEquals, assertEquals, assertGreater, assertLess } from "@std/assert";
import { integersOf } from "../../src/executor/integer_check.ts";
import { GraphBuilder } from "../../src/graph/graph.ts";
import type { LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { LEAST_REST } from "../../src/graph/ops.ts";
import type { Evaluated } from "../../src/graph/reference/evaluate.ts";
import oracle from "../fixtures/train/distillation.json" with { type: "json" };
import { DEVICE } from "./device.ts";
import { gradientsOf } from "./differences.ts";
import { both, cosine, floats, relative } from "./pairs.ts";
import { FLOAT32 } from "./run.ts";

const LOSS = 3e-4;
const GRADIENT = 1e-4;

function numbers(shape: readonly number[], data: readonly number[]): Evaluated {
  return { shape, data: Float32Array.from(data) };
}

function tokensOf(shape: readonly number[], data: readonly number[]): Evaluated {
  return { shape, data: Int32Array.from(data) };
}

Deno.test("losses and gradients by logits and through the head are PyTorch's", async () => {
  for (const { rows, vocab, width, count, ...given } of oracle) {
    const graph = new GraphBuilder();
    const x = graph.input("x", "float32", ["rows", width]);
    const weight = graph.input("w", "float32", [vocab, width]);
    const logits = graph.input("logits", "float32", ["rows", vocab]);
    const tokens = graph.input("tokens", "int32", ["rows", count]);
    const shares = graph.input("shares", "float32", ["rows", count + 1]);
    const dy = graph.input("dy", "float32", ["rows"]);
    const p = graph.add("softmax", { x: logits }, "p");
    const loss = graph.add("kl", { logits, tokens, shares, p, x, weight }, "loss");
    const dlogits = graph.add("klGrad", { logits, tokens, shares, dy }, "dlogits");
    const dx = graph.add("klHeadGrad", { p, weight, tokens, shares, dy }, "dx");
    const z = Array.from({ length: rows * vocab }, (_, i) => {
      const [row, token] = [Math.floor(i / vocab), i % vocab];
      let sum = 0;
      for (let d = 0; d < width; d++) sum += given.x[row * width + d] * given.w[token * width + d];
      return sum;
    });
    const pairs = await both(graph.finish([loss, dlogits, dx]), {
      x: numbers([rows, width], given.x),
      w: numbers([vocab, width], given.w),
      logits: numbers([rows, vocab], z),
      tokens: tokensOf([rows, count], given.tokens),
      shares: numbers([rows, count + 1], given.shares),
      dy: numbers([rows], given.weights),
    });
    for (const [i, data] of [given.losses, given.dlogits, given.dx].entries()) {
      const { lowered, naive } = pairs[i];
      const expected = { shape: naive.shape, data: Float64Array.from(data) };
      if (i === 0) data.forEach((value, row) => assertAlmostEquals(lowered[row], value, LOSS));
      else assertLess(relative({ lowered, naive: expected }), GRADIENT, `gradient ${i}`);
      // the evaluator's float64 of float32 shares, which sum to 1 within 1e-7
      assertLess(relative({ lowered: Float32Array.from(naive.data), naive: expected }), 2e-5);
    }
  }
});

/** A row's likeliest tokens of some logits and their shares, the rest's last. */
function teach(logits: readonly number[], count: number): { tokens: number[]; shares: number[] } {
  const top = Math.max(...logits);
  const exps = logits.map((value) => Math.exp(value - top));
  const sum = exps.reduce((sum, value) => sum + value, 0);
  const tokens = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]).slice(0, count);
  const shares = tokens.map((token) => exps[token] / sum);
  const rest = Math.max(0, 1 - shares.reduce((sum, share) => sum + share, 0));
  return { tokens, shares: [...shares, rest < LEAST_REST ? 0 : rest] };
}

/** Loss and gradient by x of `kl` of x · headᵀ from a teacher near by, over a large vocabulary. */
async function distil(plan: LoweringPlan) {
  const [rows, vocab, width, count] = [5, 3000, 96, 32];
  const graph = new GraphBuilder();
  const x = graph.input("x", "float32", ["rows", width]);
  const weight = graph.parameter("head", [vocab, width]);
  const logits = graph.add("linear", { x, weights: [weight], biases: [] }, "logits");
  const tokens = graph.input("tokens", "int32", ["rows", count]);
  const shares = graph.input("shares", "float32", ["rows", count + 1]);
  const seeds = graph.input("seeds", "float32", ["rows"]);
  const p = graph.add("softmax", { x: logits }, "p");
  const loss = graph.add("kl", { logits, tokens, shares, p, x, weight }, "loss");
  const [dx] = gradientsOf(graph, loss, seeds, [x]);
  assertEquals(graph.nodes.at(-1)?.op, "klHeadGrad");
  const taught = Array.from(
    { length: rows },
    (_, i) => teach(Array.from(floats([vocab], i + 50, 3).data), count),
  );
  return await both(graph.finish([loss, dx]), {
    x: floats([rows, width], 4),
    tokens: tokensOf([rows, count], taught.flatMap(({ tokens }) => tokens)),
    shares: numbers([rows, count + 1], taught.flatMap(({ shares }) => shares)),
    seeds: floats([rows], 9),
  }, plan);
}

Deno.test("through a head in float32 and in int8 the gradient follows the formula", async () => {
  const [loss, gradient] = await distil(FLOAT32);
  assertLess(relative(loss), 1e-5);
  assertLess(relative(gradient), GRADIENT);
  for (const integers of ["uint8", await integersOf(DEVICE)] as const) {
    const [, rounded] = await distil({ ...FLOAT32, gradient: () => "w8a8", integers });
    assertGreater(cosine(rounded), 0.9999, integers);
  }
});

Deno.test("a student that says what its teacher does loses nothing and gets no gradient", async () => {
  const [vocab, count] = [500, 16];
  const logits = Array.from(floats([vocab], 3, 2).data);
  const { tokens, shares } = teach(logits, count);
  const [loss, gradient] = await compared(logits, tokens, shares);
  assertAlmostEquals(loss.lowered[0], 0, 1e-6);
  for (const value of gradient.lowered) assertAlmostEquals(value, 0, 1e-6);
});

Deno.test("loss and gradient are finite where a student leaves the rest nothing", async () => {
  // the teacher's rest is a fifth, the student's less than float32 tells from 0
  const logits = [60, 30, 0, -60];
  const [loss, gradient] = await compared(logits, [0, 1], [0.5, 0.3, 0.2]);
  const own = 0.5 * Math.log(0.5) + 0.3 * Math.log(0.3 / Math.exp(-30));
  assertAlmostEquals(loss.lowered[0], own + 0.2 * Math.log(0.2 / LEAST_REST), 1e-4);
  assert(gradient.lowered.every(Number.isFinite));
  assertAlmostEquals(gradient.lowered[0], 0.5, 1e-6);
  assertAlmostEquals(gradient.lowered[1], -0.3, 1e-6);
});

Deno.test("a teacher without a rest and shares of 0 add nothing for them", async () => {
  const [loss, gradient] = await compared([1, 2, 3], [2, 0], [1, 0, 0]);
  const q = [1, 2, 3].map((z) => Math.exp(z) / (Math.exp(1) + Math.exp(2) + Math.exp(3)));
  assertAlmostEquals(loss.lowered[0], -Math.log(q[2]), 1e-6);
  [q[0], q[1], q[2] - 1].forEach((value, i) =>
    assertAlmostEquals(gradient.lowered[i], value, 1e-6)
  );
});

/** Loss and gradient by the logits of one row. */
async function compared(
  row: readonly number[],
  ids: readonly number[],
  given: readonly number[],
) {
  const graph = new GraphBuilder();
  const logits = graph.input("logits", "float32", ["rows", row.length]);
  const tokens = graph.input("tokens", "int32", ["rows", ids.length]);
  const shares = graph.input("shares", "float32", ["rows", given.length]);
  const dy = graph.input("dy", "float32", ["rows"]);
  const loss = graph.add("kl", { logits, tokens, shares }, "loss");
  const grad = graph.add("klGrad", { logits, tokens, shares, dy }, "dlogits");
  return await both(graph.finish([loss, grad]), {
    logits: numbers([1, row.length], row),
    tokens: tokensOf([1, ids.length], ids),
    shares: numbers([1, given.length], given),
    dy: numbers([1], [1]),
  });
}
