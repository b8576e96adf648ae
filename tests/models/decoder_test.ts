/**
 * Decoders of every supported architecture against transformers' logits for the same weights: lowered
 * to the CPU, by the naive evaluator, and with channel scales folded in.
 */
import { assertEquals, assertGreater, assertLess, assertThrows } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import { lower } from "../../src/graph/lowering/lowering.ts";
import { buildDecoder } from "../../src/models/decoder.ts";
import { inputs } from "../../src/models/inputs.ts";
import { SITES } from "../../src/models/hook.ts";
import { DecoderParameters, type Smoothing } from "../../src/models/parameters.ts";
import { isScalable, readSmoothing, writeSmoothing } from "../../src/models/smooth.ts";
import { DEVICE } from "../graph/device.ts";
import { distance, FLOAT32, randomArray } from "../graph/run.ts";
import { Expected } from "./expected.ts";
import { WindowModel } from "./logits.ts";
import { scalesOf } from "./scales.ts";

const MODELS = new URL("../fixtures/models/", import.meta.url);

// float32 sums in another order: logits of these models are of size 1.
const TOLERANCE = 1e-4;

const NAMES = [
  "llama",
  "llama-bias",
  "llama-linear",
  "llama-llama3",
  "llama-yarn",
  "gemma2",
  "gemma3",
  "glm4",
  "granite",
  "olmo2",
  "phi3",
  "phi3-long",
  "smollm3",
  "mistral",
  "qwen2",
  "qwen2-yarn",
  "qwen3",
];

/** A fixture model and what transformers made of it. */
async function open(name: string) {
  const folder = new URL(`${name}/`, MODELS).pathname;
  const checkpoint = await openCheckpoint(folder);
  const expected = new Expected(`${folder}expected.safetensors`);
  return { checkpoint, ids: expected.integers("ids"), logits: expected.floats("logits") };
}

/** Logits of every position by float64 loops. */
function evaluated({ config }: Checkpoint, parameters: DecoderParameters, ids: readonly number[]) {
  const ints = (values: readonly number[]) => ({
    shape: [values.length],
    data: Int32Array.from(values),
  });
  const given: Record<string, Parameters<typeof evaluate>[1][string]> = {
    [inputs.ids]: ints(ids),
    [inputs.grid]: ints([1, ids.length]),
    [inputs.lengths]: ints([ids.length - 1]),
    [inputs.total]: ints([ids.length]),
    [inputs.rows]: ints(ids.map((_, i) => i)),
  };
  const shape = [1, config.numKvHeads, ids.length, config.headDim];
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const name of [inputs.keys(layer), inputs.values(layer)]) {
      given[name] = { shape, data: new Float64Array(shape.reduce((n, dim) => n * dim, 1)) };
    }
  }
  const [{ data }] = evaluate(buildDecoder(config, ids.length), given, parameters);
  return data;
}

/** Channel scales far from 1, as calibration on random activations would give. */
function scales({ config }: Checkpoint): Smoothing {
  let seed = 0;
  return scalesOf(config, (width) => randomArray(width, ++seed).map((x) => 0.3 + Math.abs(x)));
}

for (const name of NAMES) {
  Deno.test(`${name} gives transformers' logits`, async () => {
    const { checkpoint, ids, logits } = await open(name);
    using model = await WindowModel.compile(DEVICE, checkpoint, FLOAT32, ids.length);
    assertLess(distance(await model.logits(ids), logits), TOLERANCE);
    checkpoint.close();
  });

  Deno.test(`${name} gives transformers' logits by the naive evaluator`, async () => {
    const { checkpoint, ids, logits } = await open(name);
    const parameters = new DecoderParameters(checkpoint, ids.length);
    assertLess(distance(evaluated(checkpoint, parameters, ids), logits), TOLERANCE);
    checkpoint.close();
  });

  Deno.test(`${name} gives the same logits with channel scales folded in`, async () => {
    const { checkpoint, ids, logits } = await open(name);
    const made = scales(checkpoint);
    for (const site of SITES.filter((site) => isScalable(checkpoint.config, site))) {
      const [least, most] = [Math.min, Math.max].map((pick) => pick(...made.layers[0][site]));
      assertGreater(most / least, 1.5, `${site} is scaled`);
    }
    const kept = readSmoothing(writeSmoothing(made), checkpoint.config);
    using model = await WindowModel.compile(DEVICE, checkpoint, FLOAT32, ids.length, kept);
    assertLess(distance(await model.logits(ids), logits), 2 * TOLERANCE);
    checkpoint.close();
  });
}

Deno.test("channel scales of another model, or damaged ones, are not taken", async () => {
  const { checkpoint } = await open("llama");
  const other = await open("qwen3");
  const text = writeSmoothing(scales(checkpoint));
  for (const bad of ["", "{}", text.slice(0, -2), writeSmoothing(scales(other.checkpoint))]) {
    assertEquals(readSmoothing(bad, checkpoint.config), undefined);
  }
  checkpoint.close();
  other.checkpoint.close();
});

Deno.test("capped scores are refused by name on WebGPU, whose attention would leave the cap out", async () => {
  const { checkpoint } = await open("gemma2");
  const graph = buildDecoder(checkpoint.config, 8);
  const parameters = new DecoderParameters(checkpoint, 8);
  const message = "attn_logit_softcapping";
  const lowered = () => lower(graph, parameters, { ...FLOAT32, device: "webgpu" });
  assertThrows(lowered, RangeError, message);
  checkpoint.close();
});
