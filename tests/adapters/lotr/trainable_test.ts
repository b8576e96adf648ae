/** What is trained of an adapter, as one vector, and what becomes of it. */
import { assertEquals, assertLess, assertThrows } from "@std/assert";
import { type Adapter, canonical } from "../../../adapters/lotr/canonical.ts";
import { coreFrom } from "../../../adapters/lotr/core.ts";
import { factorsAt, FactorSet } from "../../../adapters/lotr/factors.ts";
import { type Dense, dense, multiply, transpose } from "../../../adapters/lotr/linalg.ts";
import { trainableOf } from "../../../adapters/lotr/trainable.ts";
import { maxDifference, smallCore, smallFactors } from "../small.ts";

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

/** s·A·G·B of a layer and module, [d_in, d_out]. */
function branch({ factors, core }: Adapter, layer: number, module: number): Float64Array {
  const name = factors.modules[module];
  const { a, b } = factorsAt(factors, name);
  const matrix = core.matrix(layer, module);
  const left = dense(a.length / factors.rank, factors.rank, a);
  const right = dense(factors.rank, b.length / factors.rank, b);
  const middle = dense(factors.rank, factors.rank, matrix);
  return multiply(multiply(left, middle), right).data.map((value) => core.scale * value);
}

Deno.test("the paper's method starts from the factor set itself and a core without effect", () => {
  const factors = halved();
  const one = trainableOf("lotr", factors, { rank: 4, learningRateMultiplier: 1 });
  assertEquals(one.factors, factors);
  const parts = [factors.a("attn_in"), factors.b("q_proj"), factors.b("v_proj")];
  assertEquals([...one.start], [...parts.flatMap((part) => [...part]), ...new Float32Array(64)]);
  assertEquals(one.result(one.start).core.cores, new Float32Array(64));
});

Deno.test("what the paper's method trained is a factor set and a core of the same branch", () => {
  const factors = halved();
  const one = trainableOf("lotr", factors, { rank: 3, learningRateMultiplier: 1 });
  const moved = one.start.map((value, i) => value + Math.sin(i) / 10);
  const made = one.result(moved);
  assertEquals([made.factors.rank, made.factors.alpha, made.factors.base], [3, 1.5, factors.base]);
  made.core.checkFactors(made.factors);

  // The vector by hand: A of attn_in, B of q and v, then G.
  const take = (from: number, length: number) => moved.slice(from, from + length);
  const { base, layers, modules } = factors;
  const raw = new FactorSet({
    base,
    layers,
    modules,
    rank: 3,
    alpha: 1.5,
    a: new Map([["attn_in", take(0, 48)]]),
    b: new Map([["q_proj", take(48, 48)], ["v_proj", take(96, 24)]]),
  });
  const core = coreFrom(raw, 3, take(120, 36));
  for (const [layer, module] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
    const wanted = branch({ factors: raw, core }, layer, module);
    assertLess(maxDifference(branch(made, layer, module), wanted), 1e-6);
  }
});

Deno.test("a smaller rank of the paper's method starts from the first columns and rows", () => {
  const factors = halved();
  const { start } = trainableOf("lotr", factors, { rank: 3, learningRateMultiplier: 1 });
  const a = factors.a("attn_in");
  for (let row = 0; row < 16; row++) {
    assertEquals(start.slice(row * 3, row * 3 + 3), a.slice(row * 4, row * 4 + 3));
  }
  assertEquals(start.slice(48, 96), factors.b("q_proj").slice(0, 48));
});

Deno.test("canonical factors are orthonormal and sorted by the core's energy", () => {
  const factors = smallFactors({ modules: ["q_proj", "v_proj", "o_proj"] });
  const stretched = new FactorSet({
    base: factors.base,
    layers: factors.layers,
    rank: 4,
    modules: factors.modules,
    a: new Map(factors.sites.map((site) => [site, factors.a(site).map((x, i) => x * (1 + i % 5))])),
    b: new Map(factors.modules.map((m) => [m, factors.b(m).map((x, i) => x + (i % 3) / 9)])),
  });
  const before = { factors: stretched, core: smallCore(stretched, 5) };
  const { factors: made, core } = canonical(before);
  for (const site of made.sites) assertOrthonormal(transpose(dense(16, 4, made.a(site))));
  for (const m of made.modules) assertOrthonormal(dense(4, made.outputSize(m), made.b(m)));
  for (const module of [0, 1, 2]) {
    assertLess(
      maxDifference(branch({ factors: made, core }, 1, module), branch(before, 1, module)),
      1e-5,
    );
    const energy = [0, 1, 2, 3].map((column) => {
      let sum = 0;
      for (const layer of [0, 1]) {
        core.matrix(layer, module).forEach((g, i) => sum += i % 4 === column ? g * g : 0);
      }
      return sum;
    });
    assertEquals(energy, energy.toSorted((x, y) => y - x));
  }
  // Directions have no sign.
  const again = canonical({ factors: made, core }).factors;
  const size = (values: Float32Array) => values.map(Math.abs);
  for (const site of made.sites) {
    assertLess(maxDifference(size(again.a(site)), size(made.a(site))), 1e-4);
  }
});

Deno.test("a core of another rank than its factors is not rewritten", () => {
  const factors = smallFactors(QV);
  const core = smallCore(factors, 1, 2);
  assertThrows(() => canonical({ factors, core }), TypeError, "rank 2");
});

function assertOrthonormal(rows: Dense): void {
  const products = multiply(rows, transpose(rows)).data;
  const identity = products.map((_, i) => i % (rows.rows + 1) === 0 ? 1 : 0);
  assertLess(maxDifference(products, identity), 1e-5);
}

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
