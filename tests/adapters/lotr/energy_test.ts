/** Captured energy and overlap against cases whose answer is known. */
import { assert, assertAlmostEquals, assertEquals, assertLess, assertThrows } from "@std/assert";
import {
  type CapturedEnergy,
  compareFactors,
  FactorSpans,
  meanEnergy,
} from "../../../adapters/lotr/energy.ts";
import { FactorSet } from "../../../adapters/lotr/factors.ts";
import { gaussianFactors, randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { gaussian } from "../../../src/util/random.ts";
import { MODULES, SITE_OF } from "../../../src/models/hook.ts";
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import { digestOf, gradientsWithin, STACK } from "../small.ts";

/** A and B whose columns and rows are unit vectors: the first at `from`, the next beside it. */
function unitFactors(from: number, rank: number): FactorSet {
  const basis = (width: number, at: (i: number, k: number) => number) => {
    const out = new Float32Array(width * rank);
    for (let k = 0; k < rank; k++) out[at((from + k) % width, k)] = 1;
    return out;
  };
  return new FactorSet({
    base: STACK.base,
    layers: STACK.layers,
    rank,
    modules: ["v_proj"],
    a: new Map([["attn_in", basis(16, (i, k) => i * rank + k)]]),
    b: new Map([["v_proj", basis(8, (i, k) => k * 8 + i)]]),
  });
}

function capturedEnergy(
  factors: FactorSet,
  matrices: readonly LinearMatrix[],
  rank?: number,
): CapturedEnergy[] {
  const spans = new FactorSpans(factors, rank);
  return matrices.map((matrix) => spans.captured(matrix));
}

Deno.test("a matrix's energy is split by the coordinates that the bases hold", () => {
  const values = new Float32Array(16 * 8);
  values[0] = 3; // row 0, column 0: in both bases
  values[5] = 2; // row 0, column 5: in A only
  values[9 * 8 + 1] = 1; // row 9, column 1: in B only
  values[9 * 8 + 7] = 1; // in neither
  const [energy] = capturedEnergy(unitFactors(0, 2), [{ layer: 1, module: "v_proj", values }]);
  assertEquals([energy.layer, energy.module], [1, "v_proj"]);
  assertAlmostEquals(energy.input, 13 / 15, 1e-12);
  assertAlmostEquals(energy.output, 10 / 15, 1e-12);
  assertAlmostEquals(energy.core, 9 / 15, 1e-12);
});

Deno.test("what a core can express of its own span is everything, at a lower rank less", () => {
  const factors = randomFactors({ stack: STACK, rank: 5, modules: MODULES });
  const gradients = gradientsWithin(factors);
  for (const { input, output, core } of capturedEnergy(factors, gradients)) {
    assertAlmostEquals(Math.min(input, output, core), 1, 1e-6);
  }
  const { core } = meanEnergy(capturedEnergy(factors, gradients, 2));
  assert(core > 0 && core < 0.5, `${core}`);
});

Deno.test("factors that are not orthonormal are measured by their spans", () => {
  const plain = gaussianFactors({ stack: STACK, rank: 4, seed: 7 });
  for (const { core } of capturedEnergy(plain, gradientsWithin(plain))) {
    assertAlmostEquals(core, 1, 1e-6);
  }
});

Deno.test("a random set holds about rank / width of a random matrix", () => {
  const rank = 4;
  const matrices = Array.from({ length: 200 }, (_, i) => ({
    layer: 0,
    module: "q_proj" as const,
    values: Float32Array.from(gaussian(3, i, 16 * 16)),
  }));
  const held = meanEnergy(capturedEnergy(randomFactors({ stack: STACK, rank }), matrices));
  assertLess(Math.abs(held.input - rank / 16), 0.02);
  assertLess(Math.abs(held.core - (rank / 16) ** 2), 0.01);
});

Deno.test("spans turned by known angles have those principal angles", () => {
  const [one, other] = [unitFactors(0, 4), unitFactors(2, 4)];
  const [a, b] = compareFactors(one, other);
  assertEquals([a.name, b.name], ["A.attn_in", "B.v_proj"]);
  for (const { overlap, angles } of [a, b]) {
    assertAlmostEquals(overlap, 0.5, 1e-12);
    angles.forEach((angle, i) => assertAlmostEquals(angle, i < 2 ? 0 : 90, 1e-4));
  }
  assertEquals([a.chance, b.chance], [4 / 16, 4 / 8]);
});

Deno.test("a narrower set within a wider one overlaps wholly, in either order", () => {
  const [narrow, wide] = [unitFactors(1, 2), unitFactors(0, 5)];
  for (const pair of [[narrow, wide], [wide, narrow]]) {
    for (const { overlap, angles } of compareFactors(pair[0], pair[1])) {
      assertAlmostEquals(overlap, 1, 1e-12);
      assertEquals(angles.length, 2);
    }
  }
});

Deno.test("a comparison at a lower rank takes the first directions only", () => {
  const [first] = compareFactors(unitFactors(0, 4), unitFactors(2, 4), 2);
  assertAlmostEquals(first.overlap, 0, 1e-12);
});

Deno.test("sets of another base or without a common linear are not compared", () => {
  const factors = randomFactors({ stack: STACK, rank: 2, modules: ["q_proj"] });
  const elsewhere = randomFactors({ stack: { ...STACK, base: digestOf("b") }, rank: 2 });
  assertThrows(() => compareFactors(factors, elsewhere), TypeError, digestOf("b"));
  const other = randomFactors({ stack: STACK, rank: 2, modules: ["v_proj"] });
  assertThrows(() => compareFactors(factors, other), TypeError, "one adapts q_proj");
});

Deno.test("a matrix of a linear that the set does not adapt is refused", () => {
  const factors = randomFactors({ stack: STACK, rank: 2, modules: ["q_proj"] });
  const size = STACK.inputs[SITE_OF.o_proj] * STACK.outputs.o_proj;
  const matrix = { layer: 0, module: "o_proj" as const, values: new Float32Array(size) };
  assertThrows(() => capturedEnergy(factors, [matrix]), RangeError, "Cannot measure");
});
