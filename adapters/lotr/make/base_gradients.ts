/** A checkpoint's weight gradients on a device, in float32: what the `gradient` maker reads. */
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
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

/** One copy of each weight: speed counts less here than a server's memory. */
const PLAN: LoweringPlan = {
  linear: () => "float32-shared",
  gradient: () => "float32",
  embedding: "float32",
};

export interface BaseGradientsOptions {
  /** A device to run on, left open; default: one of its own. */
  readonly device?: Device;
  /** Takes the device for one piece of a run, where others use it too. */
  readonly turn?: () => Turn | Promise<Turn>;
}

/** Opens the gradients of a checkpoint, which must stay open as long; release them. */
export function openBaseGradients(
  checkpoint: Checkpoint,
  options: BaseGradientsOptions = {},
): GradientSource {
  const device = options.device ?? openDevice("cpu");
  const weights = new DeviceWeights(device);
  const positions = Math.min(MAX_POSITIONS, checkpoint.config.maxPositions);
  const lock = new DeviceLock();
  return new WeightGradients({
    device,
    weights,
    parameters: new DecoderParameters(checkpoint, positions),
    plan: PLAN,
    // packed for speed, each weight would be in memory three times
    sessionConfig: { "session.disable_prepacking": "1" },
    turn: options.turn ?? (() => lock.take(0)),
    config: checkpoint.config,
    positions,
    onRelease: () => {
      weights.release();
      if (options.device === undefined) device.release();
    },
  });
}
