/** Every block type as kernels read it, beside what the gguf package makes of the same bytes. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import type { GgmlType } from "../../../src/checkpoint/checkpoint.ts";
import { BLOCK_LAYOUTS } from "../../../src/checkpoint/formats/dequantise.ts";
import { storedBlocks } from "../../../src/checkpoint/formats/ggml_blocks.ts";
import { parseSafetensors } from "../../../src/checkpoint/formats/safetensors.ts";
import { unpack } from "../../unpack.ts";
import { fixture } from "../fixtures.ts";

const PLAIN = ["F32", "F16", "BF16"];
const TYPES = (Object.keys(BLOCK_LAYOUTS) as GgmlType[]).filter((type) => !PLAIN.includes(type));

/** What float32 rounds away of a number: of a scale, and of the offset or the product beside it. */
const ULP = 2 ** -23;

for (const type of TYPES) {
  Deno.test(`${type} blocks hold the gguf package's numbers, but for float32's rounding`, () => {
    const { tensors } = parseSafetensors(Deno.readFileSync(fixture("quants.safetensors")));
    for (const kind of ["", ".quantised"]) {
      const stored = tensors.get(`${type}${kind}.bytes`);
      const wanted = tensors.get(`${type}${kind}.values`);
      if (stored === undefined || wanted === undefined) {
        assert(kind !== "", `no fixture for ${type}`);
        continue;
      }
      const blocks = storedBlocks(type, () => stored.data);
      assert(blocks !== undefined);
      const made = blocks.read();
      assertEquals(made.offsets !== undefined, blocks.offsets);
      const got = unpack(blocks, made);
      const values = new Float32Array(wanted.data.slice().buffer);
      assertEquals(got.length, values.length);
      got.forEach((value, i) => {
        const block = Math.floor(i / blocks.size);
        const largest = 256 * Math.abs(made.scales[block]) + Math.abs(made.offsets?.[block] ?? 0);
        assertLessOrEqual(Math.abs(value - values[i]), largest * ULP, `${type}${kind} ${i}`);
      });
    }
  });
}

Deno.test("plain types have no blocks", () => {
  for (const type of PLAIN as GgmlType[]) {
    assertEquals(storedBlocks(type, () => new Uint8Array()), undefined);
  }
});
