/** Cores and their algebra against plain loops over the numbers. */
import { assert, assertAlmostEquals, assertEquals, assertLess, assertThrows } from "@std/assert";
import {
  average,
  coreFrom,
  interpolate,
  negate,
  scale,
  toResident,
  zeroCore,
} from "../../../adapters/lotr/core.ts";
import { gaussianFactors } from "../../../adapters/lotr/make/makers.ts";
import { coreLike, digestOf, maxDifference, smallCore, smallFactors, STACK } from "../small.ts";

Deno.test("a zero core has rank and scale of its factors and only zeros", () => {
  const factors = smallFactors();
  const core = zeroCore(factors);
  assertEquals([core.rank, core.scale, core.layers], [4, 1, 2]);
  assert(core.cores.every((value) => value === 0));
  assert(toResident(core, factors).data.every((value) => value === 0));
});

Deno.test("a core's digest follows its content and nothing else", () => {
  const core = smallCore(smallFactors(), 1);
  assertEquals(coreLike(core, { cores: core.cores.slice() }).digest, core.digest);
  const changed = core.cores.slice();
  changed[5] += 1e-3;
  const others = [
    coreLike(core, { cores: changed }),
    coreLike(core, { alpha: 8 }),
    coreLike(core, { base: digestOf("b") }),
    coreLike(core, { factors: digestOf("c") }),
    coreLike(core, { modules: ["q_proj", "k_proj"] }),
  ];
  const digests = new Set([core, ...others].map(({ digest }) => digest));
  assertEquals(digests.size, 6);
});

Deno.test("residence lays cores side by side, pads with zeros and folds the scale in", () => {
  const factors = smallFactors({ rank: 4, modules: ["q_proj", "k_proj", "v_proj"] });
  const core = coreLike(smallCore(factors, 2, 3), { alpha: 6 });
  const { data, digest } = toResident(core, factors);
  assertEquals(digest, core.digest);
  assertEquals(data.length, STACK.layers * 4 * 3 * 4);
  let nonZero = 0;
  for (let layer = 0; layer < 2; layer++) {
    for (let module = 0; module < 3; module++) {
      const g = core.matrix(layer, module);
      for (let row = 0; row < 4; row++) {
        for (let column = 0; column < 4; column++) {
          const inside = row < 3 && column < 3;
          const wanted = inside ? Math.fround(2 * g[row * 3 + column]) : 0;
          assertEquals(data[(layer * 4 + row) * 12 + module * 4 + column], wanted);
          if (wanted !== 0) nonZero++;
        }
      }
    }
  }
  assertEquals(nonZero, core.cores.length);
});

Deno.test("the paper's scale reaches residence: s = 1 / rank", () => {
  const factors = gaussianFactors({ stack: STACK, rank: 4 });
  const core = coreFrom(factors, 4, smallCore(smallFactors(), 3).cores);
  const { data } = toResident(core, factors);
  assertAlmostEquals(data[0], core.cores[0] / 4, 1e-7);
  assertEquals(smallCore(factors, 3, 2).scale, 1 / 4, "whatever the core's own rank");
});

Deno.test("averages, interpolations, scales and negations are those of the branches", () => {
  const factors = smallFactors();
  const one = smallCore(factors, 1);
  const two = coreLike(smallCore(factors, 2, 2), { alpha: 6 });
  const [x, y] = [one, two].map((core) => toResident(core, factors).data);
  const check = (actual: ReturnType<typeof average>, wanted: (i: number) => number) => {
    const { data } = toResident(actual, factors);
    assertLess(maxDifference(data, data.map((_, i) => wanted(i))), 1e-6);
  };
  check(average([one, two]), (i) => (x[i] + y[i]) / 2);
  check(interpolate(one, two, 0.25), (i) => 0.75 * x[i] + 0.25 * y[i]);
  check(scale(two, 3), (i) => 3 * y[i]);
  check(negate(one), (i) => -x[i]);
  check(average([one, negate(one)]), () => 0);
});

Deno.test("algebra leaves its arguments as they were", () => {
  const core = smallCore(smallFactors(), 1);
  const before = core.cores.slice();
  scale(core, 2);
  average([core, negate(core)]);
  assertEquals(core.cores, before);
});

Deno.test("cores of different factors do not combine", () => {
  const one = smallCore(smallFactors({ seed: 1 }), 1);
  const two = smallCore(smallFactors({ seed: 2 }), 1);
  const error = assertThrows(() => average([one, two]), TypeError);
  assert(error.message.includes(one.factors) && error.message.includes(two.factors));
  assertThrows(() => average([]), TypeError, "none is given");
});

Deno.test("a core of another base, factor set, shape or rank is refused with both named", () => {
  const factors = smallFactors();
  const core = smallCore(factors, 1);
  const other = digestOf("b");
  const refused = (changed: typeof core, ...words: string[]) => {
    const error = assertThrows(() => toResident(changed, factors), TypeError);
    for (const word of words) assert(error.message.includes(word), error.message);
  };
  refused(coreLike(core, { base: other }), other, factors.base);
  refused(coreLike(core, { factors: other }), other, factors.digest);
  refused(coreLike(core, { modules: ["q_proj", "k_proj"] }), "q_proj,k_proj", "q_proj,v_proj");
  refused(coreLike(core, { cores: core.cores.slice(32) }), "1 layers", "2 layers");
  const wide = smallCore(smallFactors({ rank: 8 }), 1);
  refused(coreLike(wide, { factors: factors.digest }), "rank is 8", "has 4");
});

Deno.test("elements that are not finite, and counts that fit no shape, are refused", () => {
  const core = smallCore(smallFactors(), 1);
  for (const bad of [NaN, Infinity, -Infinity]) {
    const cores = core.cores.slice();
    cores[7] = bad;
    assertThrows(() => coreLike(core, { cores }), TypeError, `element 7 is ${bad}`);
  }
  assertThrows(() => coreLike(core, { cores: core.cores.slice(1) }), TypeError, "63 elements");
  assertThrows(() => coreLike(core, { cores: new Float32Array() }), TypeError, "0 elements");
  assertThrows(() => coreLike(core, { alpha: -1 }), RangeError, "current value is -1");
  assertThrows(() => scale(core, Infinity), TypeError, "finite");
});
