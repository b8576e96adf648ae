/**
 * Logits of every position of a text, by a decoder lowered as a plan says: what the oracles are
 * compared with.
 */
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { KvCache } from "../../src/executor/kv_cache.ts";
import { lower, type LoweringPlan } from "../../src/graph/lowering/lowering.ts";
import { buildDecoder } from "../../src/models/decoder.ts";
import { inputs } from "../../src/models/inputs.ts";
import { DecoderParameters, type Smoothing } from "../../src/models/parameters.ts";
import type { Device, Session, Tensor } from "../../src/runtime/device.ts";

/** A compiled decoder that puts out the logits of a whole window. */
export class WindowModel {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #session: Session;
  readonly #tensors: readonly Tensor[];

  private constructor(
    device: Device,
    checkpoint: Checkpoint,
    session: Session,
    tensors: readonly Tensor[],
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#session = session;
    this.#tensors = tensors;
  }

  static async compile(
    device: Device,
    checkpoint: Checkpoint,
    plan: LoweringPlan,
    positions: number,
    smoothing?: Smoothing,
  ): Promise<WindowModel> {
    const parameters = new DecoderParameters(checkpoint, positions, smoothing && { smoothing });
    const graph = buildDecoder(checkpoint.config, positions);
    const lowered = lower(graph, parameters, plan);
    const entries = await Array.fromAsync(
      lowered.weights,
      async ([name, { dtype, shape, make }]) =>
        [name, device.tensor(dtype, shape, await make())] as const,
    );
    const session = await device.session(lowered.model(), {
      initializers: Object.fromEntries(entries),
    });
    return new WindowModel(device, checkpoint, session, entries.map(([, tensor]) => tensor));
  }

  /** Logits [T, V] of a first prompt of T tokens. */
  async logits(tokens: readonly number[]): Promise<Float32Array> {
    const device = this.#device;
    const { config } = this.#checkpoint;
    const count = tokens.length;
    const int32 = (values: readonly number[]) =>
      device.tensor("int32", [values.length], Int32Array.from(values));
    const given: Record<string, Tensor> = {
      [inputs.ids]: int32(tokens),
      [inputs.grid]: device.tensor("int64", [2], BigInt64Array.of(1n, BigInt(count))),
      [inputs.lengths]: int32([count - 1]),
      [inputs.total]: int32([count]),
      [inputs.rows]: int32(tokens.map((_, i) => i)),
    };
    const out = device.tensor("float32", [count, config.vocabSize]);
    const made: Record<string, Tensor> = { [inputs.logits]: out };
    const kv = new KvCache(device, {
      layers: config.numLayers,
      slots: 1,
      kvHeads: config.numKvHeads,
      capacity: count,
      headDim: config.headDim,
    });
    kv.views(0, 1).forEach(({ keys, values }, layer) => {
      given[inputs.keys(layer)] = made[`${inputs.keys(layer)}.out`] = keys;
      given[inputs.values(layer)] = made[`${inputs.values(layer)}.out`] = values;
    });
    using binding = this.#session.bind(given, made);
    await binding.run();
    kv.release();
    return out.data as Float32Array;
  }

  [Symbol.dispose](): void {
    this.#session.release();
    for (const tensor of this.#tensors) tensor.release();
  }
}

/** Natural log of the sum of exponentials of a row. */
export function logSumExp(row: Float32Array): number {
  let top = -Infinity;
  for (const x of row) if (x > top) top = x;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - top);
  return top + Math.log(sum);
}

/**
 * Mean negative log-likelihood (nats) of each next token, for each window of a text; windows share no
 * context, and what fills none is left out.
 */
export async function windowLosses(
  model: WindowModel,
  tokens: readonly number[],
  window: number,
): Promise<number[]> {
  const losses: number[] = [];
  for (let start = 0; start + window <= tokens.length; start += window) {
    const part = tokens.slice(start, start + window);
    const logits = await model.logits(part);
    const width = logits.length / window;
    let sum = 0;
    for (let i = 0; i + 1 < window; i++) {
      const row = logits.subarray(i * width, (i + 1) * width);
      sum += logSumExp(row) - row[part[i + 1]];
    }
    losses.push(sum / (window - 1));
  }
  return losses;
}

/** exp of the mean loss. */
export function perplexity(losses: readonly number[]): number {
  return Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length);
}
