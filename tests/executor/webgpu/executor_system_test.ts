/** The executor on a graphics device in software. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { folderOf } from "../../engine/tiny.ts";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

// as between runs of the CPU: float32 sums in another order
const TOLERANCE = 1e-4;

interface Found {
  readonly alike: boolean;
  readonly off: number;
  readonly rows: number;
  readonly reserved: number;
  readonly scoresOff: number;
  readonly whole: readonly string[];
}

/** Of keys and values in float32: six slots and the staging row, each of 96 tokens. */
async function reservedBytes(name: string): Promise<number> {
  using checkpoint = await openCheckpoint(folderOf(name));
  const { numLayers, numKvHeads, headDim } = checkpoint.config;
  return 4 * 7 * 96 * 2 * numLayers * numKvHeads * headDim;
}

for (const name of LONG ? ["qwen3", "qwen2", "mistral"] : ["qwen3"]) {
  Deno.test({
    ...onWebGpu(
      `${name}: rows with a core each, moved, saved and loaded say on WebGPU what they say here`,
    ),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const program = new URL("./executor_worker.ts", import.meta.url);
      const found = await gpu.run(program, [name]) as Found;
      assert(found.alike, `${found.off} off`);
      assertEquals(found.rows, 7);
      assertEquals(found.reserved, await reservedBytes(name));
      assertLess(found.off, TOLERANCE);
      assertLess(found.scoresOff, TOLERANCE);
      assertEquals(found.whole, ["scored", "Cannot score 60 tokens at once here: at most 31"]);
    },
  });
}
