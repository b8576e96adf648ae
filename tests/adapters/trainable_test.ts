/** What is trained of an adapter, as one vector, and what becomes of it. */
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { toResident } from "../../adapters/core.ts";
import { FactorSet } from "../../adapters/factors.ts";
import { trainableOf } from "../../adapters/trainable.ts";
import { smallFactors } from "./small.ts";

const QV = { modules: ["q_proj", "v_proj"] } as const;

/** smallFactors with a scale that is not 1. */
function halved(): FactorSet {
  const unit = smallFactors(QV);
  const { base, layers, rank, modules } = unit;
  const a = new Map(unit.sites.map((site) => [site, unit.a(site)]));
  const b = new Map(modules.map((module) => [module, unit.b(module)]));
  return new FactorSet({ base, layers, rank, modules, alpha: rank / 2, a, b });
}

Deno.test("the core method trains G from zero, at any rank up to the factor set's", () => {
  const factors = halved();
  for (const rank of [1, 3, 4]) {
    const one = trainableOf("core", factors, { rank, learningRateMultiplier: 1 });
    assertEquals(one.start, new Float32Array(2 * 2 * rank ** 2));
    const parameters = one.start.map((_, i) => i);
    const { core, factors: same } = one.result(parameters);
    assertEquals([core.rank, core.scale, core.factors], [rank, 0.5, factors.digest]);
    assertEquals(core.cores, parameters);
    assertEquals(same, factors);
  }
  const options = { rank: 5, learningRateMultiplier: 1 };
  assertThrows(() => trainableOf("core", factors, options), RangeError, "1 to 4");
  assertThrows(() => trainableOf("lotr", factors, options), RangeError, "1 to 4");
});

Deno.test("the paper's method starts from the factor set itself and a core without effect", () => {
  const factors = halved();
  const one = trainableOf("lotr", factors, { rank: 4, learningRateMultiplier: 1 });
  const result = one.result(one.start);
  assertEquals(result.factors, factors);
  assertEquals(result.core.cores, new Float32Array(64));
  assertEquals(one.start.length, 16 * 4 + 4 * 16 + 4 * 8 + 64);
});

Deno.test("what the paper's method trained is a factor set and a core of it", () => {
  const factors = halved();
  const one = trainableOf("lotr", factors, { rank: 3, learningRateMultiplier: 1 });
  const moved = one.start.map((value, i) => value + i / 100);
  const { factors: made, core } = one.result(moved);
  assertEquals([made.rank, made.alpha, made.base], [3, 1.5, factors.base]);
  assertEquals(core.factors, made.digest);
  const [a, b] = [made.a("attn_in"), made.b("v_proj")];
  for (const [row, column] of [[0, 0], [2, 1], [15, 2]]) {
    const wanted = factors.a("attn_in")[row * 4 + column] + (row * 3 + column) / 100;
    assertAlmostEquals(a[row * 3 + column], wanted, 1e-6);
  }
  const before = 16 * 3 + 3 * 16;
  assertAlmostEquals(b[9], factors.b("v_proj")[9] + (before + 9) / 100, 1e-6);
  assertEquals(core.cores, moved.slice(before + 3 * 8));
  assertEquals(toResident(core, made).digest, core.digest);
});

Deno.test("rates cover the vector, the core's last, and follow the multiplier", () => {
  for (const method of ["core", "lotr"] as const) {
    const [one, two] = [1, 2].map((learningRateMultiplier) =>
      trainableOf(method, smallFactors(QV), { rank: 2, learningRateMultiplier })
    );
    assertEquals(one.rates.reduce((sum, { length }) => sum + length, 0), one.start.length);
    assertEquals(one.rates.at(-1)?.length, 2 * 2 * 4);
    assertEquals(two.rates.map(({ rate }) => rate), one.rates.map(({ rate }) => 2 * rate));
  }
});
