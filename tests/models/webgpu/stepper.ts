/**
 * The decoder's graph for serving on any device, with keys, values, cores and logits in the device's
 * own memory: what is run is what the caller says, step by step.
 */
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { lower, type LoweringPlan } from "../../../src/graph/lowering/lowering.ts";
import type { ParameterSource } from "../../../src/graph/graph.ts";
import type { BlockSource } from "../../../src/graph/quantise.ts";
import { buildDecoder } from "../../../src/models/decoder.ts";
import { inputs } from "../../../src/models/inputs.ts";
import type { LinearHook } from "../../../src/models/hook.ts";
import { DecoderParameters } from "../../../src/models/parameters.ts";
import type { DType } from "../../../src/runtime/device.ts";
import { encodeFloats, type FloatType } from "../../../src/util/floats.ts";
import { modulesOf } from "../../../src/models/widths.ts";
import { SITES } from "../../../src/models/hook.ts";
import type { Device, Session, Tensor } from "../../../src/runtime/device.ts";
import type { ResidentCore } from "../../../src/executor/model.ts";

/** Rows of slots 0 and following: new tokens of each, and how many came before. */
export interface StepRow {
  readonly tokens: readonly number[];
  readonly past: number;
}

export interface StepperOptions {
  readonly hook: LinearHook;
  readonly slots: number;
  /** Tokens of a slot. */
  readonly capacity: number;
  readonly plan: LoweringPlan;
  /** Where ONNX Runtime writes what ran. */
  readonly profile?: string;
  readonly reading?: (parameters: DecoderParameters) => ParameterSource & Partial<BlockSource>;
}

export class Stepper implements Disposable {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #hook: LinearHook;
  readonly #activations: FloatType;
  readonly #session: Session;
  readonly #tensors: ReadonlyMap<string, Tensor>;

  private constructor(
    device: Device,
    checkpoint: Checkpoint,
    { hook, activations }: Pick<StepperOptions, "hook"> & { readonly activations: FloatType },
    session: Session,
    tensors: ReadonlyMap<string, Tensor>,
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#hook = hook;
    this.#activations = activations;
    this.#session = session;
    this.#tensors = tensors;
  }

  /** `slots` rows of up to `capacity` tokens. `reading` stands between the graph and its parameters. */
  static async open(
    device: Device,
    checkpoint: Checkpoint,
    { hook, slots, capacity, plan, profile, reading = (parameters) => parameters }: StepperOptions,
  ): Promise<Stepper> {
    const { config } = checkpoint;
    const parameters = reading(new DecoderParameters(checkpoint, capacity, { hook }));
    const { activations = "float32" } = plan;
    const lowered = lower(buildDecoder(config, capacity, { hook }), parameters, plan);
    const copies: Record<string, Tensor> = {};
    for (const [name, { dtype, shape, make }] of lowered.weights) {
      copies[name] = device.tensor(dtype, shape, await make());
    }
    const profiled = profile === undefined ? {} : { profile };
    const session = await device.session(lowered.model(), { copies, ...profiled });
    for (const tensor of Object.values(copies)) tensor.release();
    const tensors = new Map<string, Tensor>();
    const make = async (name: string, shape: readonly number[], dtype: DType = activations) => {
      const tensor = await device.allocate(dtype, shape);
      using nothing = device.tensor(dtype, shape);
      await device.copy([{ from: nothing, to: tensor }]);
      tensors.set(name, tensor);
    };
    for (let layer = 0; layer < config.numLayers; layer++) {
      const kv = [slots, config.numKvHeads, capacity, config.headDim];
      for (const name of [inputs.keys(layer), inputs.values(layer)]) await make(name, kv);
      for (const site of SITES) {
        const modules = modulesOf(hook, site).length;
        if (modules === 0) continue;
        await make(inputs.cores(layer, site), [slots, hook.rank, modules * hook.rank]);
      }
    }
    const logits = [slots, config.vocabSize];
    // device memory has no views of fewer rows where these end within what kernels write at a time
    if (config.vocabSize % 4 === 0) await make(inputs.logits, logits, "float32");
    else tensors.set(inputs.logits, device.tensor("float32", logits));
    return new Stepper(device, checkpoint, { hook, activations }, session, tensors);
  }

  /** Each slot's core, as its device reads them; undefined = the base. */
  async setCores(cores: readonly (ResidentCore | undefined)[]): Promise<void> {
    const { rank, modules } = this.#hook;
    for (let layer = 0; layer < this.#checkpoint.config.numLayers; layer++) {
      for (const site of SITES) {
        const tensor = this.#tensors.get(inputs.cores(layer, site));
        if (tensor === undefined) continue;
        const own = modulesOf(this.#hook, site).map((module) => modules.indexOf(module));
        const data = cores.flatMap((core) =>
          Array.from({ length: rank }, (_, row) =>
            own.flatMap((module) => {
              const at = ((layer * rank + row) * modules.length + module) * rank;
              return core === undefined
                ? new Array<number>(rank).fill(0)
                : [...core.data.subarray(at, at + rank)];
            })).flat()
        );
        const numbers = encodeFloats(this.#activations, Float32Array.from(data));
        await this.#device.upload(tensor, numbers);
      }
    }
  }

  /** Logits [rows, V] of each row's last token. */
  async step(rows: readonly StepRow[]): Promise<Float32Array> {
    const device = this.#device;
    const batch = rows.length;
    const time = Math.max(...rows.map(({ tokens }) => tokens.length));
    using made = new DisposableStack();
    const int32 = (values: readonly number[]) =>
      made.use(device.tensor("int32", [values.length], Int32Array.from(values)));
    const grid = BigInt64Array.of(BigInt(batch), BigInt(time));
    const padded = ({ tokens }: StepRow) => [...tokens, ...new Array(time - tokens.length).fill(0)];
    const given: Record<string, Tensor> = {
      [inputs.ids]: int32(rows.flatMap(padded)),
      [inputs.grid]: made.use(device.tensor("int64", [2], grid)),
      [inputs.lengths]: int32(rows.map(({ tokens, past }) => past + tokens.length - 1)),
      [inputs.total]: int32([Math.max(...rows.map(({ past }) => past + time))]),
      [inputs.rows]: int32(rows.map(({ tokens }, i) => i * time + tokens.length - 1)),
    };
    const out: Record<string, Tensor> = {};
    for (const [name, tensor] of this.#tensors) {
      const view = made.use(device.view(tensor, 0, [batch, ...tensor.shape.slice(1)]));
      if (name === inputs.logits) out[name] = view;
      else given[name] = view;
      if (/^(keys|values)\./.test(name)) out[`${name}.out`] = view;
    }
    const binding = made.use(this.#session.bind(given, out));
    await binding.run();
    const { data } = out[inputs.logits];
    if (data !== undefined) return (data as Float32Array).slice();
    return await device.download(out[inputs.logits]) as Float32Array;
  }

  /** Ends profiling; the profile's path. */
  profiled(): string {
    return this.#session.endProfiling() ?? "";
  }

  [Symbol.dispose](): void {
    this.#session.release();
    for (const tensor of this.#tensors.values()) tensor.release();
  }
}
