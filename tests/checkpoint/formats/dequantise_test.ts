/** Every stored weight type, bit for bit beside the gguf package. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { GgmlType } from "../../../src/checkpoint/checkpoint.ts";
import {
  BLOCK_LAYOUTS,
  dequantise,
  storedBytes,
} from "../../../src/checkpoint/formats/dequantise.ts";
import { parseSafetensors } from "../../../src/checkpoint/formats/safetensors.ts";
import { fixture } from "../fixtures.ts";

const TYPES = Object.keys(BLOCK_LAYOUTS) as GgmlType[];

Deno.test("every type gives bit for bit what the gguf package gives", () => {
  const { tensors } = parseSafetensors(Deno.readFileSync(fixture("quants.safetensors")));
  for (const type of TYPES) {
    for (const kind of ["", ".quantised"]) {
      const stored = tensors.get(`${type}${kind}.bytes`);
      const wanted = tensors.get(`${type}${kind}.values`);
      if (stored === undefined || wanted === undefined) {
        assert(kind !== "", `no fixture for ${type}`);
        continue;
      }
      const bits = new Uint32Array(dequantise(type, stored.data).buffer);
      assertEquals(bits, new Uint32Array(wanted.data.slice().buffer), `${type}${kind}`);
    }
  }
});

Deno.test("bytes that are no whole blocks are refused", () => {
  for (const type of TYPES) {
    const bytes = new Uint8Array(BLOCK_LAYOUTS[type].bytes + 1);
    assertThrows(() => dequantise(type, bytes), RangeError, type);
  }
  assertThrows(() => storedBytes("Q4_K", 128), RangeError, "256");
  assertEquals(storedBytes("Q4_0", 64), 36);
});

Deno.test("float32 values are copied, not shared with the bytes they came from", () => {
  const bytes = new Uint8Array(8);
  const values = dequantise("F32", bytes.subarray(4));
  bytes.fill(255);
  assertEquals(values, Float32Array.of(0));
});
