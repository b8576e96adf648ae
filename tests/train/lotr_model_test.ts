/**
 * A, B and G under training at once: the same losses and core gradients as with A and B frozen, and
 * gradients by A and B that are the loss's slope, whatever is folded into the weights.
 */
import { assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { planOf } from "../../src/executor/base.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { SITES } from "../../src/models/hook.ts";
import { DecoderParameters, type Smoothing } from "../../src/models/parameters.ts";
import { scalesOf } from "../models/scales.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import { LotrGradients } from "../../src/train/gradients/lotr_model.ts";
import type { BatchRow, MicroBatch } from "../../src/train/gradients/model.ts";
import { randomArray } from "../graph/run.ts";
import { relativeError, tinyTrainable } from "./oracle.ts";

const POSITIONS = 64;
/** Two layers, seven linears, rank 4. */
const CORES = 2 * 7 * 4 ** 2;

function rowOf(length: number, seed: number, trainable: number): BatchRow {
  const tokens = Int32Array.from(randomArray(length, seed), (x) => Math.abs(x * 1e4) % 100);
  return {
    trainable,
    example: { tokens, weights: new Float32Array(length).fill(1), line: seed },
  };
}

/** Scales as calibration would give them. */
function madeUp({ config }: Checkpoint): Smoothing {
  let seed = 3;
  return scalesOf(config, (width) => randomArray(width, ++seed).map((x) => 0.5 + Math.abs(x)));
}

/** Opens a tiny model twice, with A and B frozen and not. */
async function both(
  name: string,
  folded: "plain" | "smoothed",
  check: (frozen: DecoderGradients, free: LotrGradients, vector: Float32Array) => Promise<void>,
): Promise<void> {
  const folder = new URL(`../fixtures/models/${name}/`, import.meta.url).pathname;
  using checkpoint = await openCheckpoint(folder);
  const device = openDevice("cpu");
  const { hook, cores } = tinyTrainable(checkpoint, 0);
  const scales = folded === "plain" ? {} : { smoothing: madeUp(checkpoint) };
  const lock = new DeviceLock();
  const weights = new DeviceWeights(device);
  const options = {
    config: checkpoint.config,
    hook,
    scale: 1,
    positions: POSITIONS,
    device,
    weights,
    parameters: new DecoderParameters(checkpoint, POSITIONS, { hook, ...scales }),
    plan: planOf({ dtype: "fp32", maxBatch: 1 }),
    turn: () => lock.take(1),
  };
  const frozen = await DecoderGradients.compile(options);
  const free = await LotrGradients.compile(options);
  const sites = SITES.filter((site) => hook.modules.some((module) => readsOf(module) === site));
  const parts = [
    ...sites.map((site) => hook.a(site)),
    ...hook.modules.map((module) => hook.b(module)),
    cores,
  ];
  await check(frozen, free, Float32Array.from(parts.flatMap((part) => [...part])));
  frozen.release();
  free.release();
  weights.release();
  device.release();
}

function readsOf(module: string): string {
  if (["q_proj", "k_proj", "v_proj"].includes(module)) return "attn_in";
  if (module === "o_proj") return "attn_out";
  return module === "down_proj" ? "mlp_mid" : "mlp_in";
}

const ROWS = [rowOf(9, 1, 0), rowOf(17, 2, 0), rowOf(12, 3, 0)];

for (const folded of ["plain", "smoothed"] as const) {
  Deno.test(`with A and B as they were, losses and core gradients are those of a frozen set, ${folded}`, () =>
    both("llama", folded, async (frozen, free, vector) => {
      const count = vector.length - CORES;
      const cores = vector.subarray(count);
      const wanted = await frozen.gradients({
        rows: ROWS,
        trainables: [{ rank: 4, parameters: cores }],
      });
      const batch = { rows: ROWS, trainables: [{ rank: 4, parameters: vector }] };
      const made = await free.gradients(batch);
      made.rows.forEach(({ loss }, i) =>
        assertLess(Math.abs(loss / wanted.rows[i].loss - 1), 1e-5)
      );
      const gradient = made.gradients[0].subarray(count);
      assertLess(relativeError(gradient, wanted.gradients[0]), 1e-4);
      assertEquals(
        (await free.losses(batch)).map(({ loss }) => loss),
        made.rows.map((r) => r.loss),
      );
    }));

  Deno.test(`gradients by A and B are the loss's slope along them, ${folded}`, () =>
    both("llama", folded, async (_, free, vector) => {
      const slope = async (parameters: Float32Array) => {
        const losses = await free.losses({ rows: ROWS, trainables: [{ rank: 4, parameters }] });
        return losses.reduce((sum, { loss }) => sum + loss, 0);
      };
      const trainables = [{ rank: 4, parameters: vector }];
      const [gradient] = (await free.gradients({ rows: ROWS, trainables })).gradients;
      const end = vector.length - CORES;
      for (const [from, to] of [[0, end / 2], [end / 2, end]]) {
        const way = vector.map((_, i) =>
          i >= Math.floor(from) && i < Math.floor(to) ? gradient[i] : 0
        );
        const length = Math.hypot(...way);
        // A step that changes a loss of some hundred nats by a tenth: float32 keeps 1e-4 of it.
        const step = 0.05 / length;
        const along = (sign: number) => vector.map((x, i) => x + sign * step * way[i] / length);
        const measured = (await slope(along(1)) - await slope(along(-1))) / (2 * step);
        assertLess(Math.abs(measured / length - 1), 0.02);
      }
    }));
}

Deno.test("several trainables run one after the other, a lower rank in the first columns", () =>
  both("llama", "plain", async (_, free, vector) => {
    const low = lowered(vector);
    const rows = [rowOf(9, 1, 0), rowOf(11, 5, 1), rowOf(17, 2, 0)];
    const batch: MicroBatch = {
      rows,
      trainables: [{ rank: 4, parameters: vector }, { rank: 2, parameters: low }],
    };
    const together = await free.gradients(batch);
    const alone = await free.gradients({
      rows: [{ ...rows[1], trainable: 0 }],
      trainables: [batch.trainables[1]],
    });
    assertAlmostEquals(together.rows[1].loss, alone.rows[0].loss, 1e-4);
    assertLess(relativeError(together.gradients[1], alone.gradients[0]), 1e-5);
    assertEquals(together.gradients.map(({ length }) => length), [vector.length, low.length]);
  }));

/** Any vector of rank 2: its length is what counts. */
function lowered(vector: Float32Array): Float32Array {
  return randomArray((vector.length - CORES) / 2 + CORES / 4, 9).map((x) => x * 0.1);
}
