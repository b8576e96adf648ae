/**
 * A file of many weight types served in its own blocks: what kernels get is what the file has
 * dequantised, and the logits are its own but for the rounding of activations.
 */
import { assertEquals, assertLess } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { planOf } from "../../src/executor/base.ts";
import { DecoderParameters, names } from "../../src/models/parameters.ts";
import { DEVICE } from "../graph/device.ts";
import { distance, FLOAT32 } from "../graph/run.ts";
import { unpack } from "../unpack.ts";
import { WindowModel } from "./logits.ts";

/** Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and BF16, side by side within linears. */
const PATH = new URL("../fixtures/checkpoint/llama.gguf", import.meta.url).pathname;

Deno.test("blocks hold what float32 kernels read, rows scaled as theirs", async () => {
  using checkpoint = await openCheckpoint(PATH);
  const parameters = new DecoderParameters(checkpoint, 8);
  let found = 0;
  for (const name of [...checkpoint.weights.names(), names.head]) {
    const blocks = parameters.blocks(name);
    if (blocks === undefined) continue;
    found++;
    const wanted = parameters.read(name);
    const largest = wanted.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assertLess(distance(unpack(blocks, blocks.read()), wanted), largest * 2 ** -20, name);
  }
  assertEquals(found, 2 * 6 + 2);
});

Deno.test("a file served in its own blocks gives the logits of float32", async () => {
  using checkpoint = await openCheckpoint(PATH);
  const ids = Array.from({ length: 24 }, (_, i) => (7 + i * 31) % checkpoint.config.vocabSize);
  const logitsOf = async (plan: Parameters<typeof WindowModel.compile>[2]) => {
    using model = await WindowModel.compile(DEVICE, checkpoint, plan, ids.length);
    return (await model.logits(ids)).slice();
  };
  const wanted = await logitsOf(FLOAT32);
  const stored = await logitsOf(planOf({ dtype: "file", maxBatch: 1 }));
  const spread = Math.sqrt(wanted.reduce((sum, x) => sum + x * x, 0) / wanted.length);
  // the activations of random weights are rounded to 8 bits, the weights are not rounded
  assertLess(distance(stored, wanted) / spread, 0.2);
});
