// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Losses and gradients of a tiny model on WebGPU beside those on the CPU, by cores alone, by A, B and G
 * together, by cores that follow a teacher, of micro-batches that share a prefix and that do not, one
 * larger than the one before; and by frozen weights, of which factor sets are made.
 * Prints the length of each difference over that of what the CPU says. Argument: the model.
 */
import { float32Gradients } from "../../../adapters/lotr/make/base_gradients.ts";
import { DecoderParameters } from "../../../src/models/parameters.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { DeviceLock } from "../../../src/runtime/device_lock.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { DecoderGradients } from "../../../src/train/gradients/gradient_model.ts";
import { LotrGradients } from "../../../src/train/gradients/lotr_model.ts";
import type { Example, MicroBatch, TrainableState } from "../../../src/train/gradients/model.ts";
import { randomPrompt, Tiny } from "../../engine/tiny.ts";
import { relativeError, sitesOf, tinyTrainable } from "../oracle.ts";

const [name] = Deno.args;
const PREFIX = randomPrompt(11, 1);

/** Tokens of which the last `loss` carry loss. */
function example(tokens: readonly number[], loss: number): Example {
  const weights = Float32Array.from(tokens, (_, i) => i >= tokens.length - loss ? 1 + i % 2 : 0);
  return { tokens: Int32Array.from(tokens), weights, line: 1 };
}

/** The same row taught: half of the probability for its token, a quarter for another, the rest for all. */
function taught(row: Example): Example {
  const learnt = [...row.tokens].filter((_, i) => i > 0 && row.weights[i] !== 0);
  const tokens = Int32Array.from(learnt.flatMap((token) => [token, (token + 1) % 9]));
  const shares = Float32Array.from(learnt.flatMap(() => [0.5, 0.25, 0.25]));
  return { ...row, teaching: { count: 2, tokens, shares } };
}

const shared = [3, 5, 9].map((length, i) => example([...PREFIX, ...randomPrompt(length, i)], 2));
const long = [47, 40, 44].map((length, i) => example(randomPrompt(length, i + 9), length));

function batchOf(examples: readonly Example[], trainables: readonly TrainableState[]): MicroBatch {
  const rows = examples.flatMap((example) =>
    trainables.map((_, trainable) => ({ example, trainable }))
  );
  return { rows, trainables };
}

/** Losses, gradients by cores of two trainables, and by all of one; of each micro-batch. */
async function pull(device: Device) {
  using tiny = await Tiny.open(name, { device });
  const { checkpoint, weights, plan, positions } = tiny.base.shared;
  const { hook, cores } = tinyTrainable(checkpoint, 0);
  const lock = new DeviceLock();
  const options = {
    ...{ config: checkpoint.config, hook, scale: 1, positions, device, weights, plan },
    parameters: new DecoderParameters(checkpoint, positions, { hook }),
    turn: () => lock.take(1),
  };
  const factors = [...sitesOf(hook).map(hook.a), ...hook.modules.map(hook.b)];
  const whole = Float32Array.from([...factors, cores].flatMap((part) => [...part]));
  const two = [1, 0.5].map((by) => ({ rank: 4, parameters: cores.map((x) => x * by) }));
  const found: Record<string, ArrayLike<number>> = {};
  const model = await DecoderGradients.compile(options);
  const lotr = await LotrGradients.compile(options);
  const follower = await DecoderGradients.compile({ ...options, taught: 2 });
  for (const [kind, examples] of Object.entries({ shared, long, again: shared })) {
    const { rows, gradients } = await model.gradients(batchOf(examples, two));
    found[`${kind}: loss`] = rows.map(({ loss }) => loss);
    found[`${kind}: hits`] = rows.map(({ hits }) => hits + 1);
    const forward = await model.losses(batchOf(examples, two));
    found[`${kind}: loss alone`] = forward.map(({ loss }) => loss);
    gradients.forEach((gradient, i) => found[`${kind}: core ${i}`] = gradient);
    const near = await follower.gradients(batchOf(examples.map(taught), two));
    found[`${kind}: divergence`] = near.rows.map(({ loss }) => loss);
    near.gradients.forEach((gradient, i) => found[`${kind}: taught core ${i}`] = gradient);
    const all = await lotr.gradients(batchOf(examples, [{ rank: 4, parameters: whole }]));
    found[`${kind}: A, B and G`] = all.gradients[0];
  }
  model.release();
  lotr.release();
  follower.release();
  const source = float32Gradients(checkpoint, { device });
  const modules = ["v_proj", "down_proj"] as const;
  for await (const one of source.weightGradients({ examples: long, modules })) {
    found[`${one.layer}.${one.module}`] = one.values;
  }
  source.release();
  return found;
}

using cpu = openDevice("cpu");
using webgpu = openDevice("webgpu");
const [wanted, found] = [await pull(cpu), await pull(webgpu)];
console.log(JSON.stringify(Object.fromEntries(
  Object.entries(wanted).map(([what, values]) => [what, relativeError(found[what], values)]),
)));
