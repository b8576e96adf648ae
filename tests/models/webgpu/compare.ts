/**
 * A fixture model on the CPU in float32 and on a device under test, the same steps: ragged prompts in
 * one run, a chunk behind others, decode steps of ragged rows, fewer rows at the end; every row with
 * a core of its own, base rows among them. The CPU computes on what the device's integers stand for.
 */
import { toResident } from "../../../adapters/lotr/core.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { devicePlan, planOf, type ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { MODULES } from "../../../src/models/hook.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import type { FloatType } from "../../../src/util/floats.ts";
import { factorsOf, folderOf, randomCore, randomPrompt } from "../../engine/tiny.ts";
import { distance } from "../../graph/run.ts";
import { roundedParameters } from "./rounded.ts";
import { Stepper, type StepRow } from "./stepper.ts";

const LENGTHS = [3, 29, 1, 12, 31];
/** Slots without a core. */
const BASE = [2];
const CAPACITY = 64;
const STEPS = 6;
const FILES = new URL("../../fixtures/checkpoint/", import.meta.url).pathname;

/** The fixture models. */
export const FIXTURES = [
  "mistral",
  "qwen3",
  "llama",
  "llama-bias",
  "llama-linear",
  "llama-llama3",
  "llama-yarn",
  "qwen2",
  "qwen2-yarn",
] as const;

/**
 * How far logits in float16 may be from float32's, over how far cores move them: of models of random
 * numbers, with cores so large that they move logits by 4 to 40. Where products are summed in float32,
 * as on the CPU, up to 0.03 were seen; where in float16, up to 0.08.
 */
export const FLOAT16_TOLERANCE = { cpu: 0.06, webgpu: 0.15 } as const;

/** How a model is served on the device under test. */
export interface Tested {
  readonly device: Device;
  /** Of a fixture model, or of a file among those of checkpoints. */
  readonly name: string;
  readonly dtype: ServingDtype;
  readonly activations: FloatType;
}

export interface Compared {
  /** The largest difference of logits in each kind of step. */
  readonly worst: Readonly<Record<string, number>>;
  /** How far a row among others is from the row alone. */
  readonly among: number;
  /** How far its core moves each slot's logits. */
  readonly moved: readonly number[];
}

/** Where a fixture model is, or a file among those of checkpoints. */
export function pathOf(name: string): string {
  return name.endsWith(".gguf") ? FILES + name : folderOf(name);
}

/** Runs both. */
export async function compared({ device, name, dtype, activations }: Tested): Promise<Compared> {
  using made = new DisposableStack();
  const checkpoint = made.use(await openCheckpoint(pathOf(name)));
  const { config, config: { vocabSize } } = checkpoint;
  const factors = factorsOf(checkpoint, await checkpoint.digest(), { rank: 8, modules: MODULES });
  const cores = LENGTHS.map((_, slot) =>
    BASE.includes(slot) ? undefined : toResident(randomCore(factors, slot), factors)
  );
  const slots = LENGTHS.length;
  const plan = devicePlan("webgpu", { dtype }, activations);
  const shared = { hook: factors, slots, capacity: CAPACITY };
  const host = made.use(openDevice("cpu"));
  const reference = made.use(
    await Stepper.open(host, checkpoint, {
      ...shared,
      plan: planOf({ dtype: "fp32", maxBatch: slots }),
      reading: (parameters) => roundedParameters(config, parameters, plan),
    }),
  );
  const tested = made.use(await Stepper.open(device, checkpoint, { ...shared, plan }));
  const worst: Record<string, number> = {};

  /** The step on both; what float32 finds likeliest in each row. */
  const both = async (what: string, rows: readonly StepRow[]): Promise<number[]> => {
    const [wanted, found] = await Promise.all([reference.step(rows), tested.step(rows)]);
    worst[what] = Math.max(worst[what] ?? 0, distance(found, wanted));
    return rows.map((_, row) => {
      const logits = wanted.subarray(row * vocabSize, (row + 1) * vocabSize);
      return logits.indexOf(Math.max(...logits));
    });
  };

  const texts = LENGTHS.map((length, slot) => randomPrompt(length, slot, vocabSize));

  /** Decode steps of the first rows, which grow. */
  const decode = async (what: string, batch: number, first: readonly number[]): Promise<void> => {
    let next = first;
    for (let step = 0; step < STEPS; step++) {
      const rows = texts.slice(0, batch).map(({ length }, row) => ({
        tokens: [next[row]],
        past: length,
      }));
      rows.forEach(({ tokens }, row) => texts[row].push(...tokens));
      next = await both(what, rows);
    }
  };

  for (const stepper of [reference, tested]) await stepper.setCores(cores);
  const prompts = texts.map((tokens) => ({ tokens: [...tokens], past: 0 }));
  const first = await both("prompts", prompts);
  const chunk = randomPrompt(31, 100, vocabSize);
  await both("a chunk behind others", [{ tokens: chunk, past: texts[0].length }]);
  texts[0].push(...chunk);
  await decode("decode", slots, first);
  await decode("decode of fewer rows", slots - 2, first);

  const together = await tested.step(prompts);
  const alone = await tested.step(prompts.slice(0, 1));
  const among = distance(together.subarray(0, vocabSize), alone);
  await tested.setCores(cores.map(() => undefined));
  const plain = await tested.step(prompts);
  const moved = LENGTHS.map((_, slot) => {
    const row = (logits: Float32Array) => logits.subarray(slot * vocabSize, (slot + 1) * vocabSize);
    return distance(row(together), row(plain));
  });
  return { worst, among, moved };
}
