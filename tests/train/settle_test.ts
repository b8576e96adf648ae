/** What "auto" becomes, and how steps and evaluations lie in epochs. */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { evaluationAfter, type Pace, paceOf, placeOf, settle } from "../../src/train/plan.ts";

const AUTO = { epochs: "auto", batchSize: "auto", learningRateMultiplier: "auto" } as const;

Deno.test("auto is three epochs, more of a tiny set, fewer of a huge one; batches of 4 to 16", () => {
  const at = (rows: number) => {
    const { epochs, batchSize } = settle(AUTO, rows);
    return [epochs, batchSize];
  };
  assertEquals(at(3), [10, 3]);
  assertEquals(at(50), [6, 4]);
  assertEquals(at(250), [3, 5]);
  assertEquals(at(1000), [3, 16]);
  assertEquals(at(40_000), [1, 16]);
  assertEquals(settle(AUTO, 100).learningRateMultiplier, 1);
});

Deno.test("what is asked for is kept, a batch cut to the rows there are", () => {
  const asked = { ...AUTO, epochs: 7, batchSize: 32, learningRateMultiplier: 0.5 };
  assertEquals(settle(asked, 20), { epochs: 7, batchSize: 20, learningRateMultiplier: 0.5 });
});

function pace(rows: number, batchSize: number, evaluated = 0, epochs = 2): Pace {
  const counts = { epochs, batchSize, learningRateMultiplier: 1 };
  return paceOf(counts, rows, { train: rows, evaluated });
}

Deno.test("each epoch's batches are all rows once, and differ by at most one row", () => {
  for (const [rows, batch] of [[17, 16], [1, 4], [100, 7], [12, 4]]) {
    const one = pace(rows, batch);
    const places = Array.from({ length: 2 * one.stepsPerEpoch }, (_, s) => placeOf(one, rows, s));
    for (const epoch of [0, 1]) {
      const own = places.filter((place) => place.epoch === epoch);
      const sizes = own.map(({ from, to }) => to - from);
      assertEquals(own.map(({ from }) => from), [0, ...own.slice(0, -1).map(({ to }) => to)]);
      assertEquals(own.at(-1)?.to, rows);
      assert(Math.max(...sizes) <= batch && Math.max(...sizes) - Math.min(...sizes) <= 1);
    }
  }
});

function evaluations(one: Pace): number[] {
  const steps = one.epochs * one.stepsPerEpoch;
  return Array.from({ length: steps + 1 }, (_, done) => done)
    .filter((done) => evaluationAfter(one, done));
}

Deno.test("an epoch ends with an evaluation and has about three", () => {
  assertEquals(evaluations(pace(240, 10)), [8, 16, 24, 32, 40, 48]);
  assertEquals(evaluations(pace(120, 10)), [12, 24], "8 steps lie between two at least");
  assertEquals(evaluations(pace(48, 16)), [3, 6]);
  assertEquals(evaluations(pace(4, 4)), [1, 2]);
});

Deno.test("a long epoch is evaluated at least every 200 steps", () => {
  const at = evaluations(pace(20_000, 10));
  const gaps = at.map((step, i) => step - (at[i - 1] ?? 0));
  assertEquals([Math.max(...gaps), at.at(-1)], [200, 4000]);
});

Deno.test("evaluations over many rows are rarer, so that they take a quarter of the time", () => {
  const steps = 100;
  const { evaluationsPerEpoch } = pace(1000, 10, 500);
  const forward = evaluationsPerEpoch * 500 / 3;
  assertGreaterOrEqual(0.25 * steps * 10, forward);
  assertEquals(pace(1000, 10, 5000).evaluationsPerEpoch, 1);
});
