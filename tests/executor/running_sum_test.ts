/** The running sum in buckets against one that adds up in order, to the bit. */
import { assertEquals, assertGreater } from "@std/assert";
import { RunningSum } from "../../src/executor/sampler/running_sum.ts";
import { randomArray } from "../graph/run.ts";

interface Row {
  readonly logits: Float32Array;
  readonly exps: Float32Array;
  readonly total: number;
  readonly inverse: number;
}

function rowOf(logits: Float32Array, inverse: number): Row {
  const scaled = logits.map((x) => x * inverse);
  const most = scaled.reduce((most, x) => Math.max(most, x), -Infinity);
  const exps = scaled.map((x) => Math.exp(Math.fround(x - most)));
  return { logits, exps, total: Math.fround(exps.reduce((sum, x) => sum + x, 0)), inverse };
}

/** Every possible share by falling logit. */
function inOrder({ logits, exps, total }: Row, goal: { mass?: number; count?: number }) {
  const tokens = Array.from(logits, (_, token) => token).filter((at) => logits[at] > -Infinity)
    .sort((a, b) => logits[b] - logits[a]);
  let sum = 0;
  for (const [i, token] of tokens.entries()) {
    sum = Math.fround(sum + Math.fround(exps[token] / total));
    if (sum >= (goal.mass ?? Infinity) || i + 1 >= (goal.count ?? Infinity)) {
      return { sum, reached: logits[token] };
    }
  }
  return { sum, reached: undefined };
}

const KINDS: Readonly<Record<string, (normal: number, i: number) => number>> = {
  "flat": (x) => 0.001 * x,
  "very flat": (x) => 7 + 1e-5 * x,
  "normal": (x) => 2 * x,
  "equal": () => 3,
  "in steps": (x) => Math.round(4 * x) / 4,
  "one far above": (x, i) => i === 77 ? 30 : 0.01 * x,
  "one far below": (x, i) => i === 77 ? -90 : 0.01 * x,
  "half impossible": (x, i) => i % 2 === 0 ? -Infinity : 0.1 * x,
  // exactly halfway between two sums, again and again
  "shares of a power of two": (_, i) => i < 8 ? Math.log(2) * 16 : i % 5 === 0 ? Math.log(3) : 0,
};

for (const [kind, logit] of Object.entries(KINDS)) {
  Deno.test(`a running sum over ${kind} logits is the one in order`, () => {
    for (const size of [1, 5, 33, 1000, 30_001, 60_000]) {
      const inverse = size % 2 === 0 ? 1 : Math.fround(1 / 0.7);
      const row = rowOf(randomArray(size, size).map((x, i) => logit(x, i)), inverse);
      const masses = [1e-6, 0.1, 0.5, 0.9, 0.999, 1, 2].map((mass) => ({
        mass: Math.fround(mass),
      }));
      const counts = [1, 7, 64, 999, 40_000, 70_000].map((count) => ({ count }));
      for (const goal of [...masses, ...counts]) {
        const sum = new RunningSum(row, goal);
        sum.addAll();
        const expected = inOrder(row, goal);
        const what = `${size}, ${JSON.stringify(goal)}`;
        assertEquals({ sum: sum.sum, reached: sum.reached }, expected, what);
      }
    }
  });
}

Deno.test("shares halfway between two sums are rounded as their order has it", () => {
  // Between 0.5 and 1 sums are multiples of 2^-24: 3 · 2^-25 goes up or down by the sum's last bit.
  const halves = [7, 6, 5, 4, 3, 2];
  const exps = Float32Array.from(
    { length: 2000 },
    (_, i) => i === 0 ? 0.5 + 2 ** -24 : halves[i % 6] * 2 ** -25,
  );
  const row = { logits: exps.map((x) => Math.log(x)), exps, total: 1, inverse: 1 };
  const sum = new RunningSum(row, { count: 2000 });
  sum.addAll();
  assertGreater(sum.sum, 0.5);
  assertEquals(sum.sum, inOrder(row, { count: 2000 }).sum);
});
