/**
 * GGUF files that llama.cpp's converter wrote of every architecture that has more than Llama's block,
 * against transformers' logits for the same weights.
 */
import { assertLess } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { DEVICE } from "../graph/device.ts";
import { distance, FLOAT32 } from "../graph/run.ts";
import { Expected } from "./expected.ts";
import { WindowModel } from "./logits.ts";

const FOLDER = new URL("../fixtures/models/gguf/", import.meta.url).pathname;

// float32 sums in another order: logits of these models are of size 1.
const TOLERANCE = 1e-4;

const NAMES = [
  "gemma2",
  "gemma3",
  "glm4",
  "granite",
  "olmo2",
  "phi3",
  "phi3-long",
  "smollm3",
];

for (const name of NAMES) {
  Deno.test(`${name} in llama.cpp's GGUF gives transformers' logits`, async () => {
    using checkpoint = await openCheckpoint(`${FOLDER}${name}.gguf`);
    const expected = new Expected(`${FOLDER}${name}.safetensors`);
    const ids = expected.integers("ids");
    using model = await WindowModel.compile(DEVICE, checkpoint, FLOAT32, ids.length);
    assertLess(distance(await model.logits(ids), expected.floats("logits")), TOLERANCE);
  });
}
