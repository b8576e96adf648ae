/**
 * The workload generator: its seeds, its popularities against their own formulas, its arrival times
 * against a Poisson process, and the spelling on the command line.
 */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import {
  adapterCount,
  type PlannedRequest,
  planWorkload,
  type Popularity,
  type WorkloadOptions,
} from "../../bench/workload.ts";
import { parseLengths, parsePopularity } from "../../bench/workload_spec.ts";

const PLAIN: WorkloadOptions = {
  seed: 1,
  requests: 8000,
  popularity: { type: "base" },
  prompt: { type: "fixed", tokens: 4 },
  output: { type: "fixed", tokens: 64 },
  arrivals: { type: "closed", clients: 16 },
  tokens: [1000, 48000],
};

function shares(popularity: Popularity): number[] {
  const plan = planWorkload({ ...PLAIN, popularity });
  const counts = new Array<number>(adapterCount(popularity)).fill(0);
  for (const { adapter } of plan) {
    assert(adapter !== undefined && adapter < counts.length);
    counts[adapter] = (counts[adapter] ?? 0) + 1;
  }
  return counts.map((count) => count / plan.length);
}

/** Pearson's statistic of the shares against probabilities in proportion to the weights. */
function chiSquare(observed: readonly number[], weights: readonly number[]): number {
  const sum = weights.reduce((a, b) => a + b, 0);
  return observed.reduce((total, share, k) => {
    const expected = (weights[k] ?? 0) / sum;
    return total + PLAIN.requests * (share - expected) ** 2 / expected;
  }, 0);
}

function mean(plan: readonly PlannedRequest[], of: (one: PlannedRequest) => number): number {
  return plan.reduce((sum, one) => sum + of(one), 0) / plan.length;
}

Deno.test("the same seed plans the same workload and another seed another one", () => {
  const options = { ...PLAIN, requests: 20, popularity: parsePopularity("zipf:10:1") };
  assertEquals(planWorkload(options), planWorkload(options));
  assertNotEquals(planWorkload(options), planWorkload({ ...options, seed: 2 }));
});

Deno.test("base and identical name no adapter and one", () => {
  const adapters = (popularity: Popularity) =>
    new Set(planWorkload({ ...PLAIN, requests: 50, popularity }).map(({ adapter }) => adapter));
  assertEquals(adapters({ type: "base" }), new Set([undefined]));
  assertEquals(adapters({ type: "identical" }), new Set([0]));
});

Deno.test("any N requests in a row of distinct:N have N adapters", () => {
  const plan = planWorkload({
    ...PLAIN,
    requests: 40,
    popularity: { type: "distinct", adapters: 7 },
  });
  for (let first = 0; first + 7 <= plan.length; first++) {
    assertEquals(new Set(plan.slice(first, first + 7).map(({ adapter }) => adapter)).size, 7);
  }
});

// 19 degrees of freedom: a chance of 1 in 1,000 lies above 43.8, and the seed is fixed.
Deno.test("uniform popularity draws each adapter equally often", () => {
  const observed = shares({ type: "uniform", adapters: 20 });
  assert(chiSquare(observed, observed.map(() => 1)) < 43.8);
});

Deno.test("zipf popularity follows its power law, head and tail", () => {
  for (const s of [0.5, 1, 1.5]) {
    const observed = shares({ type: "zipf", adapters: 20, s });
    assert(chiSquare(observed, observed.map((_, k) => (k + 1) ** -s)) < 43.8, `s = ${s}`);
  }
});

Deno.test("zipf with s = 1.5 is not what uniform would give", () => {
  const observed = shares({ type: "zipf", adapters: 20, s: 1.5 });
  assert(chiSquare(observed, observed.map(() => 1)) > 1000);
});

Deno.test("an open loop's arrivals have the rate and the spread of a Poisson process", () => {
  const plan = planWorkload({ ...PLAIN, arrivals: { type: "open", rate: 20 } });
  const gaps = plan.map(({ at }, i) => at - (plan[i - 1]?.at ?? 0));
  assert(gaps.every((gap) => gap >= 0));
  const average = (plan.at(-1)?.at ?? 0) / plan.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - average) ** 2, 0) / gaps.length;
  assertAlmostEquals(average, 1 / 20, 0.003);
  assertAlmostEquals(Math.sqrt(variance), 1 / 20, 0.004);
});

Deno.test("a closed loop's requests wait for nothing but their client", () => {
  assert(planWorkload({ ...PLAIN, requests: 9 }).every(({ at }) => at === 0));
});

Deno.test("prompts are random tokens of the range and share no prefix", () => {
  const plan = planWorkload({ ...PLAIN, requests: 300, prompt: { type: "fixed", tokens: 64 } });
  for (const { prompt } of plan) {
    assertEquals(prompt.length, 64);
    assert(prompt.every((id) => Number.isInteger(id) && id >= 1000 && id < 48000));
  }
  assertEquals(new Set(plan.map(({ prompt }) => prompt.slice(0, 8).join())).size, 300);
});

Deno.test("lengths keep their bounds, and their middle", () => {
  const uniform = planWorkload({ ...PLAIN, output: { type: "uniform", min: 3, max: 9 } });
  assertEquals(new Set(uniform.map((one) => one.outputTokens)), new Set([3, 4, 5, 6, 7, 8, 9]));
  assertAlmostEquals(mean(uniform, (one) => one.outputTokens), 6, 0.1);
  const heavy = planWorkload({
    ...PLAIN,
    prompt: { type: "lognormal", median: 64, sigma: 0.8, max: 400 },
  }).map(({ prompt }) => prompt.length).toSorted((a, b) => a - b);
  assertAlmostEquals(heavy[heavy.length >> 1] ?? 0, 64, 4);
  assert((heavy[0] ?? 0) >= 1 && heavy.at(-1) === 400);
});

Deno.test("a workload that cannot be is refused with the field, the value and what would be right", () => {
  const refused = (change: Partial<WorkloadOptions>, text: string) =>
    assertThrows(() => planWorkload({ ...PLAIN, ...change }), RangeError, text);
  refused({ requests: -1 }, "requests is -1, must be a whole number of at least 0");
  refused({ popularity: { type: "uniform", adapters: 0 } }, "adapters is 0");
  refused({ arrivals: { type: "open", rate: 0 } }, "rate is 0, must be more than 0");
  refused({ arrivals: { type: "closed", clients: 1.5 } }, "clients is 1.5");
  refused({ prompt: { type: "uniform", min: 5, max: 4 } }, "prompt maximum is 4");
  refused({ output: { type: "lognormal", median: 9, sigma: -1, max: 9 } }, "output sigma is -1");
  refused({ tokens: [9, 9] }, "tokens is 9 to 9");
});

Deno.test("popularities and lengths are read from the command line's spelling", () => {
  assertEquals(parsePopularity("base"), { type: "base" });
  assertEquals(parsePopularity("identical"), { type: "identical" });
  assertEquals(parsePopularity("distinct:16"), { type: "distinct", adapters: 16 });
  assertEquals(parsePopularity("uniform:3"), { type: "uniform", adapters: 3 });
  assertEquals(parsePopularity("zipf:100:1.1"), { type: "zipf", adapters: 100, s: 1.1 });
  assertEquals(parsePopularity("zipf:100"), { type: "zipf", adapters: 100, s: 1 });
  assertEquals(parseLengths("64"), { type: "fixed", tokens: 64 });
  assertEquals(parseLengths("uniform:8:16"), { type: "uniform", min: 8, max: 16 });
  assertEquals(parseLengths("lognormal:64:0.8:512"), {
    type: "lognormal",
    median: 64,
    sigma: 0.8,
    max: 512,
  });
});

Deno.test("a spelling that is none is refused with those that are", () => {
  for (const text of ["", "zipf", "zipf:x", "distinct:0", "base:3", "uniform:4:4", "zipf:1:1:1"]) {
    assertThrows(() => parsePopularity(text), TypeError, "write base, identical, distinct:N");
  }
  for (const text of ["", "0", "x", "uniform:8", "uniform:8:4", "lognormal:1:1", "64:64"]) {
    assertThrows(() => parseLengths(text), TypeError, "write N, uniform:MIN:MAX");
  }
});
