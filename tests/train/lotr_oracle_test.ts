/**
 * Gradients by A, B and G together, through the compiled model, against PyTorch's, whatever is folded
 * into the factors and whatever rank they are padded to. What else that model promises is
 * `lotr_model_test.ts`'.
 */
import { assertEquals, assertLess } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { planOf } from "../../src/executor/base.ts";
import { inputsOf, outputsOf } from "../../src/models/widths.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { scalesOf as madeUpScales } from "../models/scales.ts";
import { type LinearHook, MODULES, SITES } from "../../src/models/hook.ts";
import { DecoderParameters, type Smoothing } from "../../src/models/parameters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { DEVICE } from "../graph/device.ts";
import { LotrGradients } from "../../src/train/gradients/lotr_model.ts";
import type { TrainableState } from "../../src/train/gradients/model.ts";
import { randomArray } from "../graph/run.ts";
import { norm, Oracle, relativeError, thinned, tinyTrainable } from "./oracle.ts";

const NAMES = [
  "llama",
  "llama-bias",
  "mistral",
  "qwen2",
  "qwen3",
  "gemma2",
  "gemma3",
  "granite",
  "olmo2",
  "smollm3",
];
const POSITIONS = 64;
const RANK = 4;
/** float32 both sides. */
const TOLERANCE = 1e-4;
/** Of the fixture's gradients by factors, which numbers are kept. */
const STRIDE = 7;

async function open(name: string): Promise<Checkpoint> {
  return await openCheckpoint(new URL(`../fixtures/models/${name}/`, import.meta.url).pathname);
}

function compile(
  device: Device,
  weights: DeviceWeights,
  checkpoint: Checkpoint,
  hook: LinearHook,
  scales?: Smoothing,
): Promise<LotrGradients> {
  const lock = new DeviceLock();
  const folded = scales === undefined ? {} : { smoothing: scales };
  return LotrGradients.compile({
    config: checkpoint.config,
    hook,
    scale: 1,
    positions: POSITIONS,
    device,
    weights,
    parameters: new DecoderParameters(checkpoint, POSITIONS, { hook, ...folded }),
    plan: planOf({ dtype: "fp32", maxBatch: 1 }),
    turn: () => lock.take(1),
  });
}

/** Factors of zeros: the trainables bring their own. */
function emptyHook({ config }: Checkpoint, rank: number): LinearHook {
  return {
    digest: `zeros of rank ${rank}`,
    rank,
    modules: MODULES,
    a: (site) => new Float32Array(inputsOf(config, site) * rank),
    b: (module) => new Float32Array(outputsOf(config, module) * rank),
  };
}

/** Names and sizes of a trainable's parts, in the order of its vector. */
function partsOf({ config }: Checkpoint): readonly (readonly [string, number])[] {
  return [
    ...SITES.map((site) => [`A.${site}`, inputsOf(config, site) * RANK] as const),
    ...MODULES.map((module) => [`B.${module}`, outputsOf(config, module) * RANK] as const),
    ["cores", config.numLayers * MODULES.length * RANK ** 2],
  ];
}

/** A, B and G of the fixture's trainable as one vector. */
function stateOf(checkpoint: Checkpoint, phase: number): TrainableState {
  const { hook, cores } = tinyTrainable(checkpoint, phase);
  const parts = [...SITES.map((site) => hook.a(site)), ...MODULES.map((m) => hook.b(m)), cores];
  return { rank: RANK, parameters: Float32Array.from(parts.flatMap((part) => [...part])) };
}

/** Compares each part of a trainable's gradient with the oracle's. */
function assertGradient(
  checkpoint: Checkpoint,
  oracle: Oracle,
  n: number,
  found: Float32Array,
): void {
  let start = 0;
  for (const [part, size] of partsOf(checkpoint)) {
    const name = `${part}.${n}`;
    const values = found.subarray(start, start + size);
    start += size;
    const kept = part === "cores" ? values : thinned(values, STRIDE);
    assertLess(relativeError(kept, oracle.floats(name)), TOLERANCE, name);
    if (part === "cores") continue;
    assertLess(Math.abs(norm(values) / oracle.floats(`${name}.norm`)[0] - 1), TOLERANCE, name);
  }
  assertEquals(start, found.length);
}

/** Channel scales far from 1. */
function scalesOf({ config }: Checkpoint): Smoothing {
  let seed = 0;
  return madeUpScales(config, (width) => randomArray(width, ++seed).map((x) => 0.3 + Math.abs(x)));
}

for (const name of NAMES) {
  Deno.test(`${name} has PyTorch's gradients by A, B and G of two trainables, at any rank and scale`, async () => {
    const checkpoint = await open(name);
    const device = DEVICE;
    const oracle = new Oracle("tiny", name);
    const batch = oracle.batch([0, 100].map((phase) => stateOf(checkpoint, phase)));
    for (const scales of [undefined, scalesOf(checkpoint)]) {
      for (const rank of [RANK, 2 * RANK]) {
        const weights = new DeviceWeights(device);
        const hook = emptyHook(checkpoint, rank);
        const model = await compile(device, weights, checkpoint, hook, scales);
        const { rows, gradients } = await model.gradients(batch);
        const losses = rows.map(({ loss }) => loss);
        assertLess(relativeError(losses, oracle.floats("loss")), TOLERANCE);
        for (const n of [0, 1]) assertGradient(checkpoint, oracle, n, gradients[n]);
        assertEquals(await model.losses(batch), rows);
        model.release();
        weights.release();
      }
    }
    checkpoint.close();
  });
}
