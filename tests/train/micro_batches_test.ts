/** Micro-batches: every row once, within the budget, and as cheap as any cut of the sorted rows. */
import { assert, assertEquals, assertLess, assertLessOrEqual, assertThrows } from "@std/assert";
import { gridCost, microBatches } from "../../src/train/micro_batches.ts";
import { seeded } from "../checkpoint/fixtures.ts";

function randomLengths(seed: number, count: number, longest: number): number[] {
  const draw = seeded(seed);
  return Array.from({ length: count }, () => 1 + Math.floor(draw() * longest));
}

function cost(lengths: readonly number[], batches: readonly (readonly number[])[], each: number) {
  const { tokens, padded } = paddingOf(lengths, batches);
  return gridCost(tokens, padded) + batches.length * each;
}

/** Of one micro-batch. */
function costOfRows(lengths: readonly number[], rows: readonly number[]): number {
  return cost(lengths, [rows], 0);
}

/** Every way to cut a list into runs. */
function cuts(rows: readonly number[]): number[][][] {
  if (rows.length === 0) return [[]];
  return rows.flatMap((_, i) =>
    cuts(rows.slice(i + 1)).map((rest) => [rows.slice(0, i + 1), ...rest])
  );
}

/** How much of the work is padding. */
interface Padding {
  /** Tokens of the rows themselves. */
  readonly tokens: number;
  /** Σ rows × longest row. */
  readonly padded: number;
  /** (padded - tokens) / padded; 0 where there are no rows. */
  readonly waste: number;
}

/** Tokens of rows against tokens with padding, over all batches. */
function paddingOf(
  lengths: ArrayLike<number>,
  batches: readonly (readonly number[])[],
): Padding {
  let tokens = 0;
  let padded = 0;
  for (const batch of batches) {
    let longest = 0;
    for (const row of batch) {
      const length = lengths[row] ?? 0;
      tokens += length;
      longest = Math.max(longest, length);
    }
    padded += longest * batch.length;
  }
  return { tokens, padded, waste: padded === 0 ? 0 : (padded - tokens) / padded };
}

Deno.test("every row is in exactly one micro-batch, and no batch exceeds the budget", () => {
  for (let seed = 0; seed < 50; seed++) {
    const lengths = randomLengths(seed, seed * 3, 300);
    const batches = microBatches(lengths, { budget: 256 });
    assertEquals(batches.flat().sort((a, b) => a - b), lengths.map((_, i) => i));
    for (const batch of batches) {
      if (batch.length > 1) assertLessOrEqual(costOfRows(lengths, batch), 256);
    }
  }
});

Deno.test("a row longer than the budget is alone", () => {
  assertEquals(microBatches([5, 100, 5], { budget: 20 }), [[1], [0, 2]]);
});

Deno.test("rows run from the longest to the shortest, equal ones in their order", () => {
  const batches = microBatches([3, 7, 3, 7, 1], { budget: 14, overhead: 0 });
  assertEquals(batches, [[1, 3], [0, 2], [4]]);
});

Deno.test("no cut of the sorted rows is cheaper", () => {
  for (let seed = 0; seed < 40; seed++) {
    const lengths = randomLengths(seed, 9, 40);
    for (const overhead of [0, 8, 64]) {
      const batches = microBatches(lengths, { budget: 100, overhead });
      const sorted = lengths.map((_, i) => i).sort((a, b) =>
        (lengths[b] ?? 0) - (lengths[a] ?? 0) || a - b
      );
      const best = Math.min(
        ...cuts(sorted)
          .filter((cut) => cut.every((run) => costOfRows(lengths, run) <= 100))
          .map((cut) => cost(lengths, cut, overhead)),
      );
      assertEquals(cost(lengths, batches, overhead), best);
    }
  }
});

Deno.test("padding is counted, and mixed lengths waste little", () => {
  assertEquals(paddingOf([4, 2, 2], [[0, 1], [2]]), { tokens: 8, padded: 10, waste: 0.2 });
  assertEquals(paddingOf([], []), { tokens: 0, padded: 0, waste: 0 });
  const lengths = randomLengths(7, 400, 500);
  const sorted = paddingOf(lengths, microBatches(lengths, { budget: 2048 })).waste;
  const rows = lengths.map((_, i) => i);
  const unsorted = paddingOf(
    lengths,
    Array.from({ length: 100 }, (_, i) => rows.slice(i * 4, i * 4 + 4)),
  ).waste;
  assertLess(sorted, 0.02);
  assert(unsorted > 0.3, `the unsorted batches waste only ${unsorted}`);
});

Deno.test("a budget that is no budget is refused", () => {
  assertThrows(() => microBatches([1], { budget: 0 }), RangeError, "budget is 0");
  assertThrows(() => microBatches([1], { budget: NaN }), RangeError, "budget is NaN");
  assertThrows(() => microBatches([1], { budget: 1, overhead: -1 }), RangeError, "overhead is -1");
});
