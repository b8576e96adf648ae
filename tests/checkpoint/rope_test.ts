/** Rotary tables beside transformers' own, for every scaling and both spellings. */

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { decoderConfig } from "../../src/checkpoint/config.ts";
import { ropeFrequencies, ropeTables } from "../../src/checkpoint/rope.ts";
import type { Rope } from "../../src/checkpoint/checkpoint.ts";
import { unscaled } from "../../src/checkpoint/rope_config.ts";
import { fixtureJson } from "./fixtures.ts";

interface RopeCase {
  readonly name: string;
  readonly configs: readonly unknown[];
  readonly frequencies: readonly number[];
  readonly attention: number;
  readonly cos: readonly number[];
  readonly sin: readonly number[];
}

const CASES = fixtureJson<RopeCase[]>("rope.json");
const PLAIN = unscaled(10_000, 64);

Deno.test("each scaling, in both spellings, turns as transformers' rotary embedding does", () => {
  for (const { name, configs, cos, sin, ...wanted } of CASES) {
    for (const config of configs) {
      const { ropes: [parsed], headDim } = decoderConfig(config);
      ropeFrequencies(parsed).forEach((frequency, i) =>
        // transformers computes in float32.
        assertAlmostEquals(frequency / (wanted.frequencies[i] ?? 0), 1, 2e-6, `${name} ${i}`)
      );
      const tables = ropeTables(parsed, headDim, 12);
      assertEquals(tables.cos.length, cos.length);
      tables.cos.forEach((value, i) => assertAlmostEquals(value, cos[i] ?? NaN, 3e-6, name));
      tables.sin.forEach((value, i) => assertAlmostEquals(value, sin[i] ?? NaN, 3e-6, name));
      assertAlmostEquals(tables.cos[0] ?? 0, wanted.attention, 1e-6, name);
    }
  }
});

Deno.test("a table row depends on its position only", () => {
  const long = ropeTables(PLAIN, 64, 5000);
  const short = ropeTables(PLAIN, 64, 10);
  assertEquals(long.cos.slice(0, 320), short.cos);
  assertAlmostEquals(long.sin[4999 * 32] ?? 0, Math.sin(4999), 1e-7);
});

Deno.test("frequency factors divide, one per plane", () => {
  const factors = Array.from({ length: 32 }, (_, i) => 1 + i);
  const scaled = ropeFrequencies({ ...PLAIN, scaling: { type: "factors", factors } });
  ropeFrequencies(PLAIN).forEach((frequency, i) =>
    assertAlmostEquals(scaled[i] ?? 0, frequency / (1 + i), 1e-15)
  );
  const few: Rope = { ...PLAIN, scaling: { type: "factors", factors: [1] } };
  assertThrows(() => ropeFrequencies(few), RangeError, "32 factors");
});

Deno.test("odd head sizes and positions that are no count are refused", () => {
  assertThrows(() => ropeFrequencies({ ...PLAIN, turned: 63 }), RangeError, "63");
  assertThrows(() => ropeTables(PLAIN, 64, -1), RangeError, "-1");
  assertEquals(ropeTables(PLAIN, 64, 0).cos.length, 0);
});
