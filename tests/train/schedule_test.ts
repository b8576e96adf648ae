/** Schedules of the learning rate, and the rate itself. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  coreRate,
  factorRate,
  MODULE_EXPONENT,
  RANK_EXPONENT,
  REFERENCE_RATE,
  scheduleAt,
  type ScheduleOptions,
  type ScheduleShape,
} from "../../src/train/plan.ts";
import { gaussianFactors, randomFactors } from "../../adapters/lotr/make/makers.ts";
import { FactorSet } from "../../adapters/lotr/factors.ts";
import { STACK } from "../adapters/small.ts";

function all(options: ScheduleOptions): number[] {
  return Array.from({ length: options.steps }, (_, step) => scheduleAt(options, step));
}

Deno.test("a warm-up rises in equal steps to the peak, which the next step has", () => {
  for (const shape of ["cosine", "linear", "constant"] as const) {
    assertEquals(all({ shape, warmup: 0.4, steps: 10 }).slice(0, 5), [0.25, 0.5, 0.75, 1, 1]);
  }
});

Deno.test("cosine and linear fall to zero one step after the last, constant stays", () => {
  const at = (shape: ScheduleShape, step: number) =>
    scheduleAt({ shape, warmup: 0, steps: 8 }, step);
  assertAlmostEquals(at("cosine", 4), 0.5, 1e-12);
  assertAlmostEquals(at("cosine", 2), (1 + Math.SQRT1_2) / 2, 1e-12);
  assertEquals([at("linear", 0), at("linear", 2), at("linear", 7)], [1, 0.75, 0.125]);
  assertEquals(at("constant", 7), 1);
});

Deno.test("every step of every schedule moves something", () => {
  for (const shape of ["cosine", "linear", "constant"] as const) {
    for (const warmup of [0, 0.05, 0.5, 1]) {
      for (const steps of [1, 2, 7]) {
        const shares = all({ shape, warmup, steps });
        assert(shares.every((share) => share > 0 && share <= 1), `${shape} ${warmup}: ${shares}`);
      }
    }
  }
});

const WIDE = {
  ...STACK,
  inputs: { ...STACK.inputs, "attn_in": 48 },
  outputs: { ...STACK.outputs, "q_proj": 48, "v_proj": 48 },
};
const QV = { stack: WIDE, modules: ["q_proj", "v_proj"] } as const;

Deno.test("orthonormal factors of rank 32 on two linears get the reference rate", () => {
  const factors = randomFactors({ ...QV, rank: 32 });
  assertAlmostEquals(coreRate(factors, { rank: 32, scale: 1 }), REFERENCE_RATE, 1e-8);
});

Deno.test("the rate falls with rank and with the number of linears", () => {
  const factors = randomFactors({ ...QV, rank: 32 });
  const ratio = coreRate(factors, { rank: 8, scale: 1 }) /
    coreRate(factors, { rank: 32, scale: 1 });
  assertAlmostEquals(ratio, 4 ** RANK_EXPONENT, 1e-5);
  const four = randomFactors({ ...QV, modules: ["q_proj", "k_proj", "v_proj", "o_proj"], rank: 8 });
  const fewer = coreRate(factors, { rank: 8, scale: 1 }) / coreRate(four, { rank: 8, scale: 1 });
  assertAlmostEquals(fewer, 2 ** MODULE_EXPONENT, 1e-5);
});

Deno.test("the same branch gets the same step, however its length is split over A, B and s", () => {
  const { base, layers, modules } = randomFactors({ ...QV, rank: 4 });
  const unit = randomFactors({ ...QV, rank: 4 });
  const times = (values: Float32Array, factor: number) => values.map((value) => value * factor);
  const stretched = new FactorSet({
    base,
    layers,
    modules,
    rank: 4,
    a: new Map(unit.sites.map((site) => [site, times(unit.a(site), 3)])),
    b: new Map(modules.map((module) => [module, times(unit.b(module), 5)])),
  });
  const rate = coreRate(stretched, { rank: 4, scale: 1 / 15 });
  assertAlmostEquals(rate, coreRate(unit, { rank: 4, scale: 1 }), 1e-7);
});

Deno.test("the paper's Gaussian factors get a rate as much smaller as their branch is longer", () => {
  const factors = gaussianFactors({ ...QV, rank: 8 });
  const rate = coreRate(factors, { rank: 8, scale: factors.alpha / factors.rank });
  const orthonormal = coreRate(randomFactors({ ...QV, rank: 8 }), { rank: 8, scale: 1 });
  // Columns of A and rows of B are about √48 long, s is 1/8.
  assertAlmostEquals(orthonormal / rate, 48 / 8, 1);
});

Deno.test("a factor that trains moves by the same share of its elements, whatever its size", () => {
  const one = randomFactors({ ...QV, rank: 4 }).a("attn_in");
  assertAlmostEquals(factorRate(one.map((x) => 10 * x)) / factorRate(one), 10, 1e-4);
});

Deno.test("factors of zero are refused", () => {
  const { base, layers, modules, sites, a, b } = parts(randomFactors({ ...QV, rank: 4 }));
  const zero = new FactorSet({
    base,
    layers,
    modules,
    rank: 4,
    a: new Map(sites.map((site) => [site, a(site).fill(0)])),
    b: new Map(modules.map((module) => [module, b(module)])),
  });
  assertThrows(() => coreRate(zero, { rank: 4, scale: 1 }), RangeError, "multiply to 0");
});

function parts(factors: FactorSet) {
  const { base, layers, modules, sites } = factors;
  return {
    base,
    layers,
    modules,
    sites,
    a: (site: FactorSet["sites"][number]) => factors.a(site).slice(),
    b: (module: FactorSet["modules"][number]) => factors.b(module).slice(),
  };
}
