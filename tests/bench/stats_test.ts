/** The benches' statistics, on values whose answers are known. */
import { assertEquals } from "@std/assert";
import { median, percentile, round, spread } from "../../bench/stats.ts";

Deno.test("the median is the middle value or the mean of the two middle ones", () => {
  assertEquals(median([9, 1, 5]), 5);
  assertEquals(median([9, 1, 5, 7]), 6);
  assertEquals(median([4]), 4);
  assertEquals(median([]), NaN);
});

Deno.test("percentiles are nearest ranks of unsorted values", () => {
  const values = Array.from({ length: 100 }, (_, i) => 99 - i);
  assertEquals([0, 0.5, 0.95, 0.99, 1].map((p) => percentile(values, p)), [0, 50, 95, 99, 99]);
  assertEquals(percentile([], 0.5), NaN);
});

Deno.test("a spread is a rounded median with the smallest and the largest value", () => {
  assertEquals(spread([1.25, 3.333, 2.04], 1), { median: 2, min: 1.3, max: 3.3 });
  assertEquals(round(2.0449, 2), 2.04);
});
