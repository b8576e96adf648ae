/** The epoch's order: a permutation by seed and epoch, fixed for ever, and without a bias to see. */
import { assertEquals, assertLess, assertNotEquals, assertThrows } from "@std/assert";
import { epochOrder } from "../../src/train/plan.ts";

Deno.test("an epoch visits every row once, in the same order each time it is asked", () => {
  for (const count of [0, 1, 2, 3, 100, 1000]) {
    const order = epochOrder(3, 1, count);
    assertEquals([...order].sort((a, b) => a - b), Array.from({ length: count }, (_, i) => i));
    assertEquals(epochOrder(3, 1, count), order);
  }
});

Deno.test("the order of a seed stays what it was when checkpoints were written", () => {
  assertEquals([...epochOrder(0, 0, 10)], [3, 0, 8, 6, 7, 5, 4, 9, 2, 1]);
});

Deno.test("seeds and epochs have orders of their own, seeds of more than 32 bits too", () => {
  const base = [...epochOrder(7, 0, 50)];
  for (const [seed, epoch] of [[7, 1], [8, 0], [7 + 2 ** 32, 0], [-7, 0], [7 + 2 ** 40, 0]]) {
    assertNotEquals([...epochOrder(seed ?? 0, epoch ?? 0, 50)], base);
  }
});

Deno.test("each row comes at each place equally often", () => {
  const count = 8;
  const epochs = 8000;
  const seen = new Float64Array(count * count);
  for (let epoch = 0; epoch < epochs; epoch++) {
    epochOrder(5, epoch, count).forEach((row, place) => {
      const at = row * count + place;
      seen[at] = (seen[at] ?? 0) + 1;
    });
  }
  const expected = epochs / count;
  const chi = seen.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
  // 49 degrees of freedom: above 94 once in ten thousand seeds.
  assertLess(chi, 94);
});

Deno.test("what is no seed, epoch or count is refused", () => {
  assertThrows(() => epochOrder(0.5, 0, 1), RangeError, "seed is 0.5");
  assertThrows(() => epochOrder(0, -1, 1), RangeError, "epoch is -1");
  assertThrows(() => epochOrder(0, 0, NaN), RangeError, "count is NaN");
});
