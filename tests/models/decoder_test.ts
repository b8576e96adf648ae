/** Decoders of every supported architecture against transformers' logits for the same weights. */
import { assertLess } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { distance, FLOAT32 } from "../graph/run.ts";
import { Expected } from "./expected.ts";
import { WindowModel } from "./logits.ts";

const MODELS = new URL("../fixtures/models/", import.meta.url);

// float32 sums in another order: logits of these models are of size 1.
const TOLERANCE = 1e-4;

for (
  const name of [
    "llama",
    "llama-bias",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
  ]
) {
  Deno.test(`${name} gives transformers' logits`, async () => {
    const folder = new URL(`${name}/`, MODELS).pathname;
    using checkpoint = await openCheckpoint(folder);
    const expected = new Expected(`${folder}expected.safetensors`);
    const ids = expected.integers("ids");
    using device = openDevice("cpu");
    using model = await WindowModel.compile(device, checkpoint, FLOAT32, ids.length);
    const logits = await model.logits(ids);
    assertLess(distance(logits, expected.floats("logits")), TOLERANCE);
  });
}
