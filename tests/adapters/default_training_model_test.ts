// deno-lint-ignore-file no-console -- the measured numbers belong in the test's output

/**
 * Cores of the default model trained on a toy task on the real device: they learn, go on from a
 * checkpoint to the same bits, and come out of a shared batch as if alone.
 */
import { assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { CoreTrainer } from "../../adapters/training/core_trainer.ts";
import { readFactors } from "../../adapters/lotr/format.ts";
import type {
  TrainCheckpoint,
  TrainRequest,
  TrainResult,
} from "../../adapters/training/training.ts";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training/hyperparameters.ts";
import type { Checkpoint, Tokenizer } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { planOf } from "../../src/executor/base.ts";
import { integersOf } from "../../src/executor/integer_check.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import type { Example } from "../../src/train/gradients/model.ts";

const POSITIONS = 32;
const FACTORS = readFactors(
  Deno.readFileSync(new URL("../fixtures/adapters/factors.safetensors", import.meta.url)),
);

const KINDS = {
  animal: ["horse", "cow", "goat", "sheep", "mouse", "lion", "wolf", "crow", "trout", "bee"],
  tool: ["hammer", "saw", "drill", "shovel", "rake", "axe", "ladder", "needle", "broom", "pump"],
} as const;

/** "A horse -> red": animals have one colour and tools another, which only training can tell. */
function toyRows(tokenizer: Tokenizer, colours: readonly [string, string]): Example[] {
  const lines = KINDS.animal.flatMap((animal, i) => [
    [`A ${animal} ->`, ` ${colours[0]}`],
    [`A ${KINDS.tool[i]} ->`, ` ${colours[1]}`],
  ]);
  return lines.map(([prompt, answer], i) => {
    const before = tokenizer.encode(prompt);
    const tokens = Int32Array.from([...before, ...tokenizer.encode(answer)]);
    const weights = Float32Array.from(tokens, (_, at) => at < before.length ? 0 : 1);
    return { tokens, weights, line: i + 1 };
  });
}

function requestOf(rows: readonly Example[], rank: number): TrainRequest {
  return {
    train: rows.slice(0, 14),
    valid: rows.slice(14),
    hyperparameters: {
      ...DEFAULT_HYPERPARAMETERS,
      rank,
      epochs: 6,
      batchSize: 7,
      patience: 0,
      seed: rank,
    },
  };
}

/** As it trains by default: 8 bits forth and back. */
async function openModel(device: Device, checkpoint: Checkpoint): Promise<DecoderGradients> {
  const lock = new DeviceLock();
  return await DecoderGradients.compile({
    config: checkpoint.config,
    hook: FACTORS,
    scale: FACTORS.alpha / FACTORS.rank,
    positions: POSITIONS,
    device,
    weights: new DeviceWeights(device),
    parameters: new DecoderParameters(checkpoint, POSITIONS, { hook: FACTORS }),
    plan: planOf({ dtype: "int8", maxBatch: 32 }, await integersOf(device)),
    turn: () => lock.take(1),
  });
}

Deno.test("cores of the default model", async (t) => {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  using device = openDevice("cpu");
  const model = await openModel(device, checkpoint);
  const open = () => Promise.resolve(model);
  await using trainer = new CoreTrainer({
    models: { core: open, lotr: open },
    defaultFactors: () => Promise.resolve(FACTORS),
  });
  const requests = [
    requestOf(toyRows(checkpoint.tokenizer, ["red", "blue"]), 8),
    requestOf(toyRows(checkpoint.tokenizer, ["green", "white"]), 6),
  ];
  const checkpoints: TrainCheckpoint[] = [];
  const alone: TrainResult[] = [];

  await t.step("learn what their rows say", async () => {
    for (const request of requests) {
      const onCheckpoint = (one: TrainCheckpoint) => Promise.resolve(void checkpoints.push(one));
      const result = await trainer.train({ ...request, onCheckpoint });
      const { base, best, refused } = result;
      console.log(`loss ${base.loss.toFixed(3)} → ${best.loss.toFixed(3)}, step ${best.step}`);
      assertLess(best.loss, base.loss - 2.5);
      assertEquals(refused, undefined);
      alone.push(result);
    }
  });

  await t.step("go on from a checkpoint to the same bits", async () => {
    for (const { bytes: resume, step } of checkpoints.slice(1, 3)) {
      const { core, best } = await trainer.train({ ...requests[0], resume });
      assertEquals([core.digest, best], [alone[0].core.digest, alone[0].best], `from step ${step}`);
    }
  });

  await t.step("come out of a shared batch as if alone", async () => {
    const together = await Promise.all(requests.map((request) => trainer.train(request)));
    for (const [i, { core, best }] of together.entries()) {
      const wanted = alone[i].core.cores;
      const distance = Math.hypot(...core.cores.map((value, j) => value - wanted[j]));
      const relative = distance / Math.hypot(...wanted);
      console.log(`rank ${core.rank}: cores differ by ${relative.toExponential(1)}`);
      assertLess(relative, 0.02);
      assertAlmostEquals(best.loss, alone[i].best.loss, 0.01);
    }
  });
});
