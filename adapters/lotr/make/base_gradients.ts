/**
 * A base's weight gradients on a device: what the `gradient` maker reads. Those of a small base are
 * computed in float32, those of any other over the weights that serve, straight-through: the
 * difference is in `bench/LOG.md`.
 */
import { numbersOf } from "../../../src/checkpoint/expected_weights.ts";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import type { SharedBase } from "../../../src/executor/base.ts";
import type { LoweringPlan } from "../../../src/graph/lowering/lowering.ts";
import { DeviceWeights } from "../../../src/models/device_weights.ts";
import { DecoderParameters } from "../../../src/models/parameters.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { DeviceLock, type Turn } from "../../../src/runtime/device_lock.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import type { GradientSource } from "../../../src/train/gradients/gradient_source.ts";
import { WeightGradients } from "../../../src/train/gradients/weight_gradients.ts";

/** Most tokens of a row of calibration text, where the model allows as many. */
const MAX_POSITIONS = 2048;

/** Most bytes of a base's weights in float32 that are made for gradients. */
const MOST = 2 ** 30;
/** Of the memory that is free, the float32 weights may be a fourth: gradients take as much again. */
const SHARE = 1 / 4;

/** Whether gradients are computed in float32; `available` is the memory that is free, in bytes. */
export function fitsInFloat32(
  { weights }: Pick<Checkpoint, "weights">,
  available: number = Deno.systemMemoryInfo().available,
): boolean {
  return 4 * numbersOf(weights) <= Math.min(MOST, available * SHARE);
}

/** One copy of each weight: speed counts less here than a server's memory. */
const PLAN = {
  linear: () => "float32-shared",
  gradient: () => "float32",
  embedding: "float32",
} as const satisfies LoweringPlan;

export interface BaseGradientsOptions {
  /** A device to run on, left open; default: one of its own. */
  readonly device?: Device;
  /** Takes the device for one piece of a run, where others use it too. */
  readonly turn?: () => Turn | Promise<Turn>;
}

/** Opens a checkpoint's gradients in float32. It must stay open as long; release them. */
export function float32Gradients(
  checkpoint: Checkpoint,
  options: BaseGradientsOptions = {},
): GradientSource {
  const device = options.device ?? openDevice("cpu");
  const weights = new DeviceWeights(device);
  const positions = positionsOf(checkpoint);
  return new WeightGradients({
    device,
    weights,
    parameters: new DecoderParameters(checkpoint, positions),
    plan: device.name === "cpu" ? PLAN : { ...PLAN, device: device.name },
    // packed for speed, each weight would be in memory three times
    sessionConfig: { "session.disable_prepacking": "1" },
    turn: options.turn ?? alone(),
    config: checkpoint.config,
    positions,
    onRelease: () => {
      weights.release();
      if (options.device === undefined) device.release();
    },
  });
}

/**
 * Opens the gradients of a base as it is served, over its own prepared weights. It must stay open as
 * long; release them.
 *
 * @param onRelease called when they are released
 */
export function servedGradients(
  { device, checkpoint, files, plan, smoothing }: SharedBase,
  { turn, onRelease }: Pick<BaseGradientsOptions, "turn"> & { readonly onRelease?: () => void } =
    {},
): GradientSource {
  const positions = positionsOf(checkpoint);
  // its own: RoPE's tables have another length than those of serving
  const weights = new DeviceWeights(device, files);
  const scales = smoothing === undefined ? {} : { smoothing };
  return new WeightGradients({
    device,
    weights,
    parameters: new DecoderParameters(checkpoint, positions, scales),
    plan,
    turn: turn ?? alone(),
    config: checkpoint.config,
    positions,
    onRelease: () => {
      weights.release();
      onRelease?.();
    },
  });
}

function positionsOf({ config }: Checkpoint): number {
  return Math.min(MAX_POSITIONS, config.maxPositions);
}

/** Turns where nobody else uses the device. */
function alone(): () => Promise<Turn> {
  const lock = new DeviceLock();
  return async () => await lock.take(0);
}
