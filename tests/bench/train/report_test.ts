/** The quality report: which rate counts, what the intervals say, what the table shows. */
import { assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { pairedInterval, rowMeans } from "../../../bench/train/bootstrap.ts";
import { bestRate, REFERENCE, reportTable, resultsOf } from "../../../bench/train/report.ts";
import type { Run } from "../../../bench/train/runs.ts";

const ROWS = 200;

/** A run that has the first `right` of 200 test rows right. */
function run(method: string, options: Partial<Run> & { readonly right: number }): Run {
  const { right, ...rest } = options;
  const verdicts = "1".repeat(right) + "0".repeat(ROWS - right);
  const accuracy = { exact: right / ROWS, label: right / ROWS };
  return {
    method,
    task: "question",
    rate: 1,
    seed: 0,
    parameters: 10,
    valid: accuracy,
    test: accuracy,
    rowsExact: verdicts,
    rowsLabel: verdicts,
    ...rest,
  };
}

Deno.test("rows that are always alike leave no doubt, however few", () => {
  assertEquals(pairedInterval([1, 0, 1], [1, 0, 1]), { mean: 0, low: 0, high: 0 });
  assertEquals(pairedInterval([1, 1], [0, 0]), { mean: 1, low: 1, high: 1 });
});

Deno.test("the interval is as wide as the normal one where rows are many", () => {
  const own = Array.from({ length: 400 }, (_, i) => i % 10 < 8 ? 1 : 0);
  const other = Array.from({ length: 400 }, (_, i) => i % 10 >= 2 && i % 10 < 9 ? 1 : 0);
  const differences = own.map((value, i) => value - other[i]);
  const { mean, low, high } = pairedInterval(own, other);
  assertAlmostEquals(mean, 0.1, 1e-12);
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / 400;
  const half = 1.96 * Math.sqrt(variance / 400);
  assertAlmostEquals(low, mean - half, 0.004);
  assertAlmostEquals(high, mean + half, 0.004);
});

Deno.test("pairing makes the interval of like methods narrow", () => {
  const rows = Array.from({ length: 300 }, (_, i) => i % 3 === 0 ? 1 : 0);
  const nearly = rows.map((value, i) => i < 3 ? 1 - value : value);
  const shuffled = rows.map((_, i) => rows[(i * 7 + 1) % 300]);
  const width = (other: readonly number[]) => {
    const { low, high } = pairedInterval(rows, other);
    return high - low;
  };
  assertEquals(width(nearly) < width(shuffled) / 3, true);
});

Deno.test("verdicts average over runs, row by row", () => {
  assertEquals(rowMeans(["110", "100"]), [1, 0.5, 0]);
  assertThrows(() => rowMeans(["110", "10"]), RangeError, "verdicts of 3, 2 rows");
  assertThrows(() => pairedInterval([1], [1, 0]), RangeError, "Cannot compare 1 rows with 2");
});

Deno.test("validation rows choose the rate, not test rows; ties go by label, then to the smaller", () => {
  const valid = (exact: number, label: number) => ({ valid: { exact, label } });
  assertEquals(
    bestRate([
      run("core32", { right: 90, rate: 1, ...valid(0.5, 0.6) }),
      run("core32", { right: 10, rate: 2, ...valid(0.6, 0.6) }),
    ]),
    2,
  );
  assertEquals(
    bestRate([
      run("core32", { right: 1, rate: 4, ...valid(0.6, 0.7) }),
      run("core32", { right: 1, rate: 2, ...valid(0.6, 0.7) }),
      run("core32", { right: 1, rate: 1, ...valid(0.6, 0.6) }),
    ]),
    2,
  );
  assertEquals(bestRate([]), undefined);
});

Deno.test("a method's score is over the seeds at its best rate alone", () => {
  const runs = [
    run("core32", { right: 100, rate: 1 }),
    run("core32", { right: 160, rate: 2 }),
    run("core32", { right: 170, rate: 2, seed: 1 }),
    run("core32", { right: 199, rate: 1, seed: 1 }),
    run(REFERENCE, { right: 165, rate: 1e-3 }),
  ];
  const [own, reference] = resultsOf(runs, 0);
  assertEquals(own.rate, 2);
  assertEquals(own.seeds, [0, 1]);
  assertAlmostEquals(own.label.mean, 165 / ROWS, 1e-12);
  assertAlmostEquals(own.label.deviation, 10 / ROWS / Math.SQRT2, 1e-12);
  assertAlmostEquals(own.label.difference?.mean ?? NaN, 0, 1e-12);
  assertEquals(reference.label.difference, undefined);
});

Deno.test("tasks do not mix, and a task without the reference has no differences", () => {
  const results = resultsOf([
    run("core32", { right: 10 }),
    run("core32", { right: 20, task: "polarity" }),
    run(REFERENCE, { right: 10, task: "polarity" }),
  ], 0);
  assertEquals(results.map(({ task, label }) => [task, label.difference?.mean]), [
    ["question", undefined],
    ["polarity", 0.05],
    ["polarity", undefined],
  ]);
});

Deno.test("the table names parameters, rate, scores and intervals", () => {
  const text = reportTable(resultsOf([
    run("base", { right: 30, rate: 0, parameters: 0 }),
    run("core32", { right: 166, parameters: 61_440 }),
    run(REFERENCE, { right: 166, parameters: 460_800, rate: 1e-3 }),
  ], 0));
  assertStringIncludes(text, "question: test accuracy");
  assertStringIncludes(text, "base");
  assertStringIncludes(text, "61,440");
  assertStringIncludes(text, "83.0 ± 0.0 [+0.0: +0.0 … +0.0]");
  assertStringIncludes(text, "15.0 ± 0.0 [-68.0: ");
});
