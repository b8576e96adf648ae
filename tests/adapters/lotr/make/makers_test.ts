/** Factor makers: orthonormality, seeds, and the spectra that `svd` has to find. */
import { assert, assertEquals, assertLess, assertNotEquals, assertThrows } from "@std/assert";
import type { FactorSet } from "../../../../adapters/lotr/factors.ts";
import { dense, multiply, orthonormal, transpose } from "../../../../adapters/lotr/linalg.ts";
import {
  gaussianFactors,
  randomFactors,
  svdFactors,
} from "../../../../adapters/lotr/make/makers.ts";
import { gaussian } from "../../../../src/util/random.ts";
import { weightName } from "../../../../adapters/lotr/stack.ts";
import { MODULES, SITE_OF } from "../../../../src/models/hook.ts";
import { maxDifference, SmallWeights, STACK } from "../../small.ts";

function distanceToOrthonormal(factors: FactorSet): number {
  const grams = [
    ...factors.sites.map((site) => {
      const a = dense(factors.inputSize(site), factors.rank, factors.a(site));
      return multiply(transpose(a), a);
    }),
    ...factors.modules.map((module) => {
      const b = dense(factors.rank, factors.outputSize(module), factors.b(module));
      return multiply(b, transpose(b));
    }),
  ];
  return Math.max(
    ...grams.map(({ rows, data }) =>
      maxDifference(data, data.map((_, i) => i % (rows + 1) === 0 ? 1 : 0))
    ),
  );
}

/** Energy of Σ ‖·‖² that one direction of A (column) or B (row) holds, over layers and modules. */
function energies(factors: FactorSet, weights: SmallWeights): Map<string, number[]> {
  const held = new Map<string, number[]>();
  const add = (name: string, values: number[]) =>
    held.set(name, values.map((value, i) => value + (held.get(name)?.[i] ?? 0)));
  const squares = (rows: number, columns: number, data: Float64Array) =>
    Array.from(
      { length: rows },
      (_, row) =>
        data.subarray(row * columns, (row + 1) * columns).reduce((sum, x) => sum + x * x, 0),
    );
  for (const module of factors.modules) {
    for (let layer = 0; layer < STACK.layers; layer++) {
      const site = SITE_OF[module];
      const w = transpose(
        dense(STACK.outputs[module], STACK.inputs[site], weights.read(weightName(layer, module))),
      );
      const a = dense(STACK.inputs[site], factors.rank, factors.a(site));
      const b = dense(factors.rank, STACK.outputs[module], factors.b(module));
      const left = multiply(transpose(a), w);
      const right = multiply(b, transpose(w));
      add(`A.${site}`, squares(left.rows, left.columns, left.data));
      add(`B.${module}`, squares(right.rows, right.columns, right.data));
    }
  }
  return held;
}

Deno.test("random factors are orthonormal in every linear", () => {
  assertLess(
    distanceToOrthonormal(randomFactors({ stack: STACK, rank: 7, modules: MODULES })),
    1e-6,
  );
});

Deno.test("the same seed makes the same factors, another seed others", () => {
  const one = randomFactors({ stack: STACK, rank: 4, seed: 3 });
  assertEquals(one.digest, randomFactors({ stack: STACK, rank: 4, seed: 3 }).digest);
  assertNotEquals(one.digest, randomFactors({ stack: STACK, rank: 4, seed: 4 }).digest);
});

Deno.test("a factor set's digest is pinned, so that files made elsewhere keep their names", () => {
  assertEquals(
    randomFactors({ stack: STACK, rank: 2, seed: 1 }).digest,
    "72d3829e1113c7788e2e017dd8e42fc639868392b42b3f53ab29b2585e5a49df",
  );
});

Deno.test("a linear's random factors do not depend on which others are adapted", () => {
  const few = randomFactors({ stack: STACK, rank: 4 });
  const all = randomFactors({ stack: STACK, rank: 4, modules: MODULES });
  assertEquals(few.b("v_proj"), all.b("v_proj"));
  assertEquals(few.a("attn_in"), all.a("attn_in"));
});

Deno.test("the paper's factors are plain Gaussians at scale 1 / rank", () => {
  const factors = gaussianFactors({ stack: STACK, rank: 8 });
  assertEquals(factors.alpha / factors.rank, 1 / 8);
  const values = [...factors.a("attn_in"), ...factors.b("q_proj")];
  const energy = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  assert(energy > 0.6 && energy < 1.5, `mean square is ${energy}`);
});

Deno.test("the Gaussian generator has the moments and the independence of N(0, 1)", () => {
  const n = 200_000;
  const [x, y] = [gaussian(1, 0, n), gaussian(1, 1, n)];
  const mean = (f: (i: number) => number) => x.reduce((sum, _, i) => sum + f(i), 0) / n;
  const bound = 5 / Math.sqrt(n);
  assertLess(Math.abs(mean((i) => x[i])), bound);
  assertLess(Math.abs(mean((i) => x[i] ** 2) - 1), bound * Math.SQRT2);
  assertLess(Math.abs(mean((i) => x[i] ** 4) - 3), bound * Math.sqrt(96));
  assertLess(Math.abs(mean((i) => x[i] * y[i])), bound);
  assertLess(Math.abs(mean((i) => i === 0 ? 0 : x[i] * x[i - 1])), bound);
});

Deno.test("svd factors are orthonormal, sorted by energy, and hold more of it than random ones", () => {
  const weights = new SmallWeights();
  const factors = svdFactors({ stack: STACK, rank: 4, modules: MODULES, weights });
  assertLess(distanceToOrthonormal(factors), 1e-6);
  const random = energies(randomFactors({ stack: STACK, rank: 4, modules: MODULES }), weights);
  for (const [name, held] of energies(factors, weights)) {
    for (let i = 1; i < held.length; i++) {
      assert(held[i] <= held[i - 1] * (1 + 1e-9), `${name}: ${held}`);
    }
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    assert(sum(held) > sum(random.get(name) ?? []), name);
  }
});

Deno.test("no other orthonormal directions hold more energy than svd's", () => {
  const weights = new SmallWeights();
  const best = energies(svdFactors({ stack: STACK, rank: 3, weights }), weights);
  for (let seed = 0; seed < 50; seed++) {
    const other = energies(randomFactors({ stack: STACK, rank: 3, seed }), weights);
    for (const [name, held] of other) {
      const sum = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0);
      assert(sum(held) <= sum(best.get(name)), `${name} at seed ${seed}`);
    }
  }
});

Deno.test("svd recovers the directions of weights that have only a few", () => {
  const basis = orthonormal(dense(16, 2, gaussian(8, 0, 32)));
  const weights = new SmallWeights();
  weights.read = (name) => {
    const rows = weights.info(name).shape[0];
    const mix = dense(rows, 2, gaussian(9, rows + name.length, rows * 2));
    return Float32Array.from(multiply(mix, transpose(basis)).data);
  };
  const factors = svdFactors({ stack: STACK, rank: 2, modules: ["q_proj"], weights });
  const overlap = multiply(transpose(basis), dense(16, 2, factors.a("attn_in")));
  const energy = overlap.data.reduce((sum, x) => sum + x * x, 0);
  assertLess(Math.abs(energy - 2), 1e-6);
});

Deno.test("svd tells its progress from the first weight to the last direction", () => {
  const seen: number[] = [];
  svdFactors({
    stack: STACK,
    rank: 2,
    weights: new SmallWeights(),
    progress: (done, total) => seen.push(done / total),
  });
  assertEquals(seen.length, 4 + 3);
  assertEquals(seen.at(-1), 1);
});

Deno.test("a rank that is no whole number from 1 to 64, or wider than a linear, is refused", () => {
  for (const rank of [0, 65, 1.5, NaN]) {
    assertThrows(
      () => randomFactors({ stack: STACK, rank }),
      RangeError,
      `current value is ${rank}`,
    );
  }
  assertThrows(() => randomFactors({ stack: STACK, rank: 9 }), RangeError, "v_proj");
});
