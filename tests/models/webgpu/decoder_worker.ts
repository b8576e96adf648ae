// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * A fixture model on the CPU and on WebGPU, the same steps: ragged prompts in one run, a chunk behind
 * others, decode steps of ragged rows, fewer rows at the end; every row with a core of its own, base
 * rows among them. Prints the largest difference of logits in each kind of step, how far cores move
 * them, and whether a row among others is the row alone. The CPU computes in float32 on what the
 * device's integers stand for. Arguments: the model, how its weights are served, and the type of
 * activations on the device.
 */
import { toResident } from "../../../adapters/lotr/core.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { devicePlan, planOf, type ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { MODULES } from "../../../src/models/hook.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { factorsOf, folderOf, randomCore, randomPrompt } from "../../engine/tiny.ts";
import { distance } from "../../graph/run.ts";
import type { FloatType } from "../../../src/util/floats.ts";
import { roundedParameters } from "./rounded.ts";
import { Stepper, type StepRow } from "./stepper.ts";

const LENGTHS = [3, 29, 1, 12, 31];
/** Slots without a core. */
const BASE = [2];
const CAPACITY = 64;
const STEPS = 6;

const [name, dtype = "fp32", activations = "float32"] = Deno.args as [
  string,
  ServingDtype?,
  FloatType?,
];
const FILES = new URL("../../fixtures/checkpoint/", import.meta.url).pathname;
const checkpoint = await openCheckpoint(name.endsWith(".gguf") ? FILES + name : folderOf(name));
const { vocabSize } = checkpoint.config;
const factors = factorsOf(checkpoint, await checkpoint.digest(), { rank: 8, modules: MODULES });
const cores = LENGTHS.map((_, slot) =>
  BASE.includes(slot) ? undefined : toResident(randomCore(factors, slot), factors)
);
const slots = LENGTHS.length;
const devices = [openDevice("cpu"), openDevice("webgpu")];
const plan = devicePlan("webgpu", { dtype }, activations);
const shared = { hook: factors, slots, capacity: CAPACITY };
const [cpu, gpu] = await Promise.all([
  Stepper.open(devices[0], checkpoint, {
    ...shared,
    plan: planOf({ dtype: "fp32", maxBatch: slots }),
    reading: (parameters) => roundedParameters(checkpoint.config, parameters, plan),
  }),
  Stepper.open(devices[1], checkpoint, { ...shared, plan }),
]);

const worst: Record<string, number> = {};

/** The step on both; what the CPU finds likeliest in each row. */
async function both(what: string, rows: readonly StepRow[]): Promise<number[]> {
  const [wanted, found] = await Promise.all([cpu.step(rows), gpu.step(rows)]);
  worst[what] = Math.max(worst[what] ?? 0, distance(found, wanted));
  return rows.map((_, row) => {
    const logits = wanted.subarray(row * vocabSize, (row + 1) * vocabSize);
    return logits.indexOf(Math.max(...logits));
  });
}

const texts = LENGTHS.map((length, slot) => randomPrompt(length, slot, vocabSize));

/** Decode steps of the first rows, which grow. */
async function decode(what: string, batch: number, first: readonly number[]): Promise<void> {
  let next = first;
  for (let step = 0; step < STEPS; step++) {
    const rows = texts.slice(0, batch).map(({ length }, row) => ({
      tokens: [next[row]],
      past: length,
    }));
    rows.forEach(({ tokens }, row) => texts[row].push(...tokens));
    next = await both(what, rows);
  }
}

for (const stepper of [cpu, gpu]) await stepper.setCores(cores);
const prompts = texts.map((tokens) => ({ tokens: [...tokens], past: 0 }));
const first = await both("prompts", prompts);
const chunk = randomPrompt(31, 100, vocabSize);
await both("a chunk behind others", [{ tokens: chunk, past: texts[0].length }]);
texts[0].push(...chunk);
await decode("decode", slots, first);
await decode("decode of fewer rows", slots - 2, first);

const together = await gpu.step(prompts);
const alone = await gpu.step(prompts.slice(0, 1));
const among = distance(together.subarray(0, vocabSize), alone);
await gpu.setCores(cores.map(() => undefined));
const plain = await gpu.step(prompts);
const moved = LENGTHS.map((_, slot) => {
  const row = (logits: Float32Array) => logits.subarray(slot * vocabSize, (slot + 1) * vocabSize);
  return distance(row(together), row(plain));
});
console.log(JSON.stringify({ worst, among, moved }));
for (const one of [cpu, gpu, ...devices]) one[Symbol.dispose]();
checkpoint.close();
