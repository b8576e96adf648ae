/** The arithmetic of the training benches: paces, ratios, batches and what metrics say. */
import { assertEquals } from "@std/assert";
import { compare, tokensOf } from "../../../bench/train/contest.ts";
import { apartOf } from "../../../bench/train/jobs.ts";
import { batchesOf } from "../../../bench/train/peft.ts";
import { summaryOf, type TrafficRound } from "../../../bench/train/traffic.ts";
import { paceOf, sumOf } from "../../../bench/train/tuning_job.ts";
import { lmExample } from "../../../src/train/data/dataset.ts";

Deno.test("the ratio is to the peer that is faster in the median, round by round", () => {
  const { ratio, tokensPerSecond } = compare(
    new Map([["lembas", [200, 300, 400]], ["fp32", [100, 100, 500]], ["bf16", [110, 150, 160]]]),
  );
  assertEquals(ratio, 2);
  assertEquals(tokensPerSecond["fp32"], { median: 100, min: 100, max: 500 });
  assertEquals(compare(new Map([["lembas", [1]]])).ratio, undefined);
});

Deno.test("both sides' batches hold each row once an epoch, batches of one size", () => {
  const rows = Array.from({ length: 10 }, (_, i) => lmExample([i, 1, 2], i + 1));
  const work = { rows, batch: 4, epochs: 2, rank: 1 };
  const batches = batchesOf(work);
  assertEquals(batches.map(({ length }) => length), [3, 3, 4, 3, 3, 4]);
  const sorted = (part: readonly (readonly number[])[]) => part.flat().sort((a, b) => a - b);
  const all = rows.map((_, i) => i);
  assertEquals(sorted(batches.slice(0, 3)), all);
  assertEquals(sorted(batches.slice(3)), all);
  assertEquals(tokensOf(work), 60);
});

Deno.test("training's pace is between the ends of whole steps", () => {
  const sights = [[0, 5], [1, 5], [2, 105], [3, 105], [4, 305], [9, 305]]
    .map(([seconds, tokens]) => ({ at: seconds * 1e3, tokens }));
  assertEquals(paceOf(sights), 100);
  assertEquals(paceOf(sights.slice(0, 4)), 0);
});

Deno.test("a metric is summed over its labels, and not with its like", () => {
  const text = `# HELP step_sum x
step_sum{kind="prefill"} 1.5
step_sum{kind="decode"} 2
step_sum_else 9
tokens_total 7
`;
  assertEquals(sumOf(text, "step_sum"), 3.5);
  assertEquals(sumOf(text, "tokens_total"), 7);
  assertEquals(sumOf(text, "nothing"), 0);
});

Deno.test("traffic's summary takes ratios round by round", () => {
  const gaps = (p99: number, longest: number) => ({ p50: 1, p99, longest, tokensPerSecond: 1 });
  const round = (p99: number, beside: number): TrafficRound => ({
    quiet: gaps(10, 20),
    training: gaps(p99, 30),
    idle: 400,
    beside,
    free: 0.25,
  });
  assertEquals(summaryOf([round(12, 50), round(14, 100), round(90, 80)]), {
    p99Ratio: 1.4,
    longestRatio: 1.5,
    shareOfFree: 0.8,
  });
});

Deno.test("jobs in company are as far from alone as the farthest of them", () => {
  const job = (base: number, best: number, cores: readonly number[]) => ({
    base: { loss: base, accuracy: 0 },
    best: { loss: best, accuracy: 0, step: 1 },
    core: { cores: Float32Array.from(cores) },
  });
  const alone = [job(2, 1, [3, 4]), job(4, 1, [0, 1])];
  assertEquals(apartOf(alone, alone), { baseLoss: 0, bestLoss: 0, cores: 0 });
  const together = [job(2, 1.5, [3, 4]), job(3, 1, [0, 0.5]), job(9, 9, [9, 9])];
  assertEquals(apartOf(together, alone), { baseLoss: 0.25, bestLoss: 0.5, cores: 0.5 });
});
