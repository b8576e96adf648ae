/**
 * An encoder on the CPU: its weights in device layout, made once, and the lanes that share them, one
 * for each factor set and one without. A lane computes packed texts in one pass, each with its own
 * core.
 */
import type { EncoderCheckpoint } from "../../checkpoint/encoder/open.ts";
import type { Framed } from "../../checkpoint/encoder/frame.ts";
import { lower, type LoweringPlan } from "../../graph/lowering/lowering.ts";
import { DeviceWeights } from "../../models/device_weights.ts";
import { buildEncoder, encoderInputs } from "../../models/encoder/encoder.ts";
import { EncoderParameters } from "../../models/encoder/encoder_parameters.ts";
import type { LinearHook } from "../../models/hook.ts";
import { inputs } from "../../models/inputs.ts";
import type { Device, Session, Tensor } from "../../runtime/device.ts";
import { CoreSlots } from "../core_slots.ts";
import { integersOf } from "../integer_check.ts";
import type { ResidentCore } from "../model.ts";
import { planOf } from "../plan/serving_plan.ts";
import { layoutOf, type TextLayout } from "./text_layout.ts";
import { poolingRows, vectorsOf } from "./pooled.ts";

export type EncoderDtype = "fp32" | "int8";

export interface EncoderBaseOptions {
  readonly dtype: EncoderDtype;
  /** Texts of a pass. */
  readonly maxRows: number;
  /** Intra-op threads; default: the physical cores. */
  readonly threads?: number | undefined;
}

/** A text to compute, and the core that it goes through; undefined = the base. */
export interface TextRow {
  readonly text: Framed;
  readonly core: ResidentCore | undefined;
}

export class EncoderBase {
  readonly #device: Device;
  readonly #checkpoint: EncoderCheckpoint;
  readonly #options: EncoderBaseOptions;
  readonly #plan: LoweringPlan;
  readonly #weights: DeviceWeights;

  private constructor(
    device: Device,
    checkpoint: EncoderCheckpoint,
    options: EncoderBaseOptions,
    plan: LoweringPlan,
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#plan = plan;
    this.#weights = new DeviceWeights(device);
  }

  static async load(
    device: Device,
    checkpoint: EncoderCheckpoint,
    options: EncoderBaseOptions,
  ): Promise<EncoderBase> {
    // rows of a pass are many, so int8 is W8A8
    const { dtype } = options;
    const plan = planOf({ dtype, maxBatch: Infinity }, await integersOf(device));
    return new EncoderBase(device, checkpoint, options, { ...plan, embedding: "float32" });
  }

  /** The base joined with a factor set, or with none. */
  async lane(hook?: LinearHook): Promise<EncoderLane> {
    const { config, modules: { pooling } } = this.#checkpoint;
    const output = pooling.includes("max") ? "hidden" : "pooled";
    const graph = buildEncoder(config, hook, output);
    const lowered = lower(graph, new EncoderParameters(this.#checkpoint, hook), this.#plan);
    const { threads, maxRows } = this.#options;
    const session = await this.#weights.session(lowered, threads === undefined ? {} : { threads });
    await this.#device.trim();
    const cores = new CoreSlots(this.#device, hook, config.numLayers, maxRows);
    return new EncoderLane(this.#device, this.#checkpoint, session, cores);
  }

  release(): void {
    this.#weights.release();
  }
}

export class EncoderLane {
  readonly #device: Device;
  readonly #checkpoint: EncoderCheckpoint;
  readonly #session: Session;
  readonly #cores: CoreSlots;

  constructor(
    device: Device,
    checkpoint: EncoderCheckpoint,
    session: Session,
    cores: CoreSlots,
  ) {
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#session = session;
    this.#cores = cores;
  }

  /** What pooling makes of each text, in their order, before what stands behind it. */
  async run(rows: readonly TextRow[]): Promise<readonly Float32Array[]> {
    const { config, modules: { pooling } } = this.#checkpoint;
    const layout = layoutOf(config, rows.map(({ text }) => text));
    rows.forEach(({ core }, slot) => this.#cores.set(slot, core));
    using made = new DisposableStack();
    const tensor: Device["tensor"] = (...args) => made.use(this.#device.tensor(...args));
    const given: Record<string, Tensor> = {
      ...this.#given(layout, tensor),
      ...Object.fromEntries(
        this.#cores.views(0, rows.length).map(({ layer, site, tensor }) => [
          inputs.cores(layer, site),
          tensor,
        ]),
      ),
    };
    const { hiddenSize } = config;
    const weights = poolingRows(pooling, layout);
    if (weights !== undefined) {
      const shape = [weights.length / layout.tokens, layout.tokens];
      given[encoderInputs.pooling] = tensor("float32", shape, weights);
    }
    const [name, count] = weights === undefined
      ? [encoderInputs.hiddenStates, layout.tokens]
      : [encoderInputs.pooled, weights.length / layout.tokens];
    const out = tensor("float32", [count, hiddenSize]);
    using binding = this.#session.bind(given, { [name]: out });
    await binding.run();
    return vectorsOf(pooling, layout, floats(out), hiddenSize);
  }

  release(): void {
    this.#session.release();
    this.#cores.release();
  }

  #given(layout: TextLayout, tensor: Device["tensor"]): Record<string, Tensor> {
    const { ids, positions, types, lengths, cells, places, time } = layout;
    const ints = (data: Int32Array) => tensor("int32", [data.length], data);
    return {
      [inputs.ids]: ints(ids),
      [encoderInputs.positions]: ints(positions),
      ...(this.#checkpoint.config.tokenTypes === 0 ? {} : { [encoderInputs.types]: ints(types) }),
      [inputs.grid]: tensor("int64", [2], BigInt64Array.of(BigInt(lengths.length), BigInt(time))),
      [encoderInputs.lengths]: ints(lengths),
      [inputs.cells]: ints(cells),
      [inputs.places]: ints(places),
    };
  }
}

function floats({ data }: Tensor): Float32Array {
  if (data instanceof Float32Array) return data;
  throw new TypeError("internal: vectors are not in host memory");
}
