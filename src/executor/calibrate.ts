/**
 * Channel scales for int8, from the largest activations that the float32 model has on some text.
 */
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { lower, type LoweringPlan } from "../graph/lowering/lowering.ts";
import { buildCalibration, inputs } from "../models/decoder.ts";
import { DeviceWeights } from "../models/device_weights.ts";
import { DecoderParameters, type Smoothing } from "../models/parameters.ts";
import { smoothing } from "../models/smooth.ts";
import type { Device, Session, Tensor } from "../runtime/device.ts";
import { KvCache } from "./kv_cache.ts";

/** Tokens of one calibration run. */
const CALIBRATION_CHUNK = 512;

const FLOAT32: LoweringPlan = {
  linear: () => "float32",
  gradient: () => "float32",
  embedding: "float32",
};

/** Makes channel scales from the largest activations that the float32 model has on some text. */
export async function calibrate(
  device: Device,
  checkpoint: Checkpoint,
  tokens: readonly number[],
): Promise<Smoothing> {
  const { config } = checkpoint;
  const capacity = Math.min(CALIBRATION_CHUNK, config.maxPositions);
  const parameters = new DecoderParameters(checkpoint, capacity);
  const graph = buildCalibration(config, capacity);
  const lowered = lower(graph, parameters, FLOAT32);
  const { numLayers: layers, numKvHeads: kvHeads, headDim } = config;
  using made = new DisposableStack();
  const weights = made.adopt(new DeviceWeights(device), (all) => all.release());
  const session = made.use(await weights.session(lowered, {}));
  const shape = { layers, slots: 1, kvHeads, capacity, headDim };
  const kv = made.adopt(new KvCache(device, shape), (cache) => cache.release());
  const maxima = new Map<string, Float32Array>();
  for (let start = 0; start < tokens.length; start += capacity) {
    const chunk = tokens.slice(start, start + capacity);
    await runCalibration(device, session, kv, chunk, maxima);
  }
  return smoothing(checkpoint, (name) => maximaOf(maxima, name));
}

async function runCalibration(
  device: Device,
  session: Session,
  kv: KvCache,
  tokens: readonly number[],
  maxima: Map<string, Float32Array>,
): Promise<void> {
  const count = tokens.length;
  using tensors = new DisposableStack();
  const tensor: Device["tensor"] = (...args) => tensors.use(device.tensor(...args));
  const int32 = (values: readonly number[]) =>
    tensor("int32", [values.length], Int32Array.from(values));
  const given: Record<string, Tensor> = {
    [inputs.ids]: int32(tokens),
    [inputs.grid]: tensor("int64", [2], BigInt64Array.of(1n, BigInt(count))),
    [inputs.lengths]: int32([count - 1]),
    [inputs.total]: int32([count]),
    [inputs.rows]: int32([count - 1]),
  };
  const made: Record<string, Tensor> = {};
  kv.views(0, 1).forEach(({ keys, values }, layer) => {
    given[inputs.keys(layer)] = made[`${inputs.keys(layer)}.out`] = keys;
    given[inputs.values(layer)] = made[`${inputs.values(layer)}.out`] = values;
  });
  for (const { name, dtype, shape } of session.outputs) {
    if (name.startsWith("max.")) made[name] = tensor(dtype, shape);
  }
  using binding = session.bind(given, made);
  await binding.run();
  for (const { name } of session.outputs) {
    const seen = made[name]?.data;
    if (!name.startsWith("max.") || !(seen instanceof Float32Array)) continue;
    const before = maxima.get(name);
    maxima.set(name, before === undefined ? seen : seen.map((x, i) => Math.max(x, before[i])));
  }
}

function maximaOf(maxima: ReadonlyMap<string, Float32Array>, name: string): Float32Array {
  const found = maxima.get(`max.${name}`);
  if (found === undefined) throw new TypeError(`internal: no maxima of ${name}`);
  return found;
}
