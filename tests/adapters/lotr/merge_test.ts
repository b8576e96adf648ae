/** Merged weights against the branch that they replace. */
import { assertEquals, assertLess, assertStrictEquals, assertThrows } from "@std/assert";
import { decode } from "../../../adapters/lotr/format.ts";
import { toResident, zeroCore } from "../../../adapters/lotr/core.ts";
import { dense, multiply, transpose } from "../../../adapters/lotr/linalg.ts";
import { mergedSafetensors, MergedWeights } from "../../../adapters/lotr/merge.ts";
import { gaussian } from "../../../src/util/random.ts";
import { weightName } from "../../../adapters/lotr/stack.ts";
import { parseSafetensors } from "../../../src/checkpoint/formats/safetensors.ts";
import { MODULES, SITE_OF } from "../../../src/models/hook.ts";
import { coreLike, maxDifference, smallCore, smallFactors, SmallWeights, STACK } from "../small.ts";

Deno.test("x times the merged weight is x·W + the branch of the resident core", () => {
  const factors = smallFactors({ modules: MODULES });
  const core = coreLike(smallCore(factors, 1, 3), { alpha: 4.5 });
  const { data } = toResident(core, factors);
  const weights = new SmallWeights();
  const merged = new MergedWeights(weights, core, factors);
  const width = MODULES.length * factors.rank;
  for (let layer = 0; layer < STACK.layers; layer++) {
    MODULES.forEach((module, at) => {
      const name = weightName(layer, module);
      const [dIn, dOut] = [STACK.inputs[SITE_OF[module]], STACK.outputs[module]];
      const x = dense(3, dIn, gaussian(layer, at, 3 * dIn));
      const u = multiply(x, dense(dIn, factors.rank, factors.a(SITE_OF[module])));
      const g = new Float64Array(factors.rank ** 2).map((_, i) => {
        const [row, column] = [Math.floor(i / factors.rank), i % factors.rank];
        return data[(layer * factors.rank + row) * width + at * factors.rank + column];
      });
      const branch = multiply(
        multiply(u, dense(factors.rank, factors.rank, g)),
        dense(factors.rank, dOut, factors.b(module)),
      );
      const plain = multiply(x, transpose(dense(dOut, dIn, weights.read(name))));
      const wanted = plain.data.map((value, i) => value + branch.data[i]);
      const actual = multiply(x, transpose(dense(dOut, dIn, merged.read(name))));
      assertLess(maxDifference(actual.data, wanted), 1e-5);
    });
  }
});

Deno.test("linears that the core does not adapt pass through as they are stored", () => {
  const factors = smallFactors();
  const weights = new SmallWeights();
  const merged = new MergedWeights(weights, smallCore(factors, 1), factors);
  const other = weightName(0, "k_proj");
  const raw = new Uint8Array(1);
  weights.readRaw = () => raw;
  assertStrictEquals(merged.readRaw(other), raw);
  assertEquals(merged.read(other), weights.read(other));
  assertEquals(merged.info(other), weights.info(other));
  assertEquals(merged.names(), weights.names());
});

Deno.test("a zero core merges to the base exactly", () => {
  const factors = smallFactors();
  const weights = new SmallWeights();
  const merged = new MergedWeights(weights, zeroCore(factors), factors);
  for (const name of weights.names()) assertEquals(merged.read(name), weights.read(name));
});

Deno.test("the file of merged tensors holds the adapted linears and names base and core", async () => {
  const factors = smallFactors();
  const core = smallCore(factors, 1);
  const weights = new SmallWeights();
  const { tensors, metadata } = parseSafetensors(
    await new Response(mergedSafetensors(weights, core, factors)).bytes(),
  );
  assertEquals(tensors.size, 4);
  assertEquals([metadata.get("base"), metadata.get("core")], [core.base, core.digest]);
  const merged = new MergedWeights(weights, core, factors);
  for (const [name, tensor] of tensors) assertEquals(decode(name, tensor), merged.read(name));
});

Deno.test("rows of a merged linear are those of the whole", () => {
  const factors = smallFactors();
  const merged = new MergedWeights(new SmallWeights(), smallCore(factors, 1), factors);
  const [name] = merged.merged();
  const [whole, [, width]] = [merged.read(name), merged.info(name).shape];
  const part = whole.subarray(width, 3 * width);
  const rows = { first: 1, count: 2 };
  assertEquals(merged.read(name, { rows, into: new Float32Array(2 * width) }), part);
  assertEquals(new Float32Array(merged.readRaw(name, rows).slice().buffer), part);
});

Deno.test("a core of other factors does not merge", () => {
  const core = smallCore(smallFactors({ seed: 1 }), 1);
  assertThrows(() => new MergedWeights(new SmallWeights(), core, smallFactors()), TypeError);
});
