/**
 * A base model on a device: its weights in device layout, made once, and the lanes that share them
 * (the base joined with one factor set each). Kernels follow from the dtype; int8 is calibrated
 * first.
 */
import type { Checkpoint, DecoderConfig } from "../checkpoint/checkpoint.ts";
import { narrowestWindow } from "../checkpoint/layers.ts";
import type { LinearKernel } from "../graph/lowering/lowering_context.ts";
import type { Graph } from "../graph/graph.ts";
import { lower, type Lowered, type LoweringPlan } from "../graph/lowering/lowering.ts";
import type { Places as WeightPlaces } from "../graph/lowering/onnx.ts";
import { halves, weightCount } from "../graph/segments.ts";
import { buildDecoder } from "../models/decoder.ts";
import { inputs } from "../models/inputs.ts";
import { packedSumsHold } from "../models/packed_sums.ts";
import { DeviceWeights } from "../models/device_weights.ts";
import type { WeightFiles } from "../models/weight_files.ts";
import type { LinearHook, ModuleName } from "../models/hook.ts";
import {
  type Lora,
  type LoraRanks,
  type ResidentLora,
  residentLoraBytes,
  toResidentLora,
} from "../models/lora.ts";
import { DecoderParameters, type Smoothing } from "../models/parameters.ts";
import { type Device, RuntimeError, type Session } from "../runtime/device.ts";
import { openDevice } from "../runtime/open.ts";
import { CoreCopies } from "./core_slots.ts";
import { BlockPool } from "./block_pool.ts";
import { calibrate } from "./calibrate.ts";
import { Executor } from "./executor.ts";
import { integersOf } from "./integer_check.ts";
import type { KvShape } from "./kv_cache.ts";
import { laneBytes } from "./lane_bytes.ts";
import type { LoraOptions } from "./lora/lora_steps.ts";
import type { Recording } from "./device/decode_steps.ts";
import { decodeModel } from "./device/decode_model.ts";
import { DeviceLogits } from "./device/logits.ts";
import { DeviceSampler } from "./device/device_sampler.ts";
import { type Prompts, promptsOf, SPARE_TOKENS } from "./device/prompts.ts";
import { StagedKv } from "./device/staged_kv.ts";
import { floatsOf } from "./plan/device_floats.ts";
import { devicePlan, inBlocks, planOf, type ServingDtype } from "./plan/serving_plan.ts";
import { Sampler } from "./sampler.ts";
import type { FloatType } from "../util/floats.ts";

export { planOf, type ServingDtype } from "./plan/serving_plan.ts";

export interface BaseOptions {
  readonly dtype: ServingDtype;
  /** Rows of a batch. */
  readonly maxBatch: number;
  /** Tokens of a row: prompt and completion. */
  readonly maxContext: number;
  /** Text that int8's channel scales are calibrated on, in tokens. */
  readonly calibration: readonly number[];
  /** Channel scales made before, for the same base; calibration is then skipped. */
  readonly smoothing?: Smoothing;
  /** Intra-op threads; default: the physical cores. */
  readonly threads?: number;
  /** Opens prepared weights for these channel scales; without, weights are made in memory. */
  readonly files?: (scales: Smoothing | undefined) => Promise<WeightFiles>;
  /**
   * Weights from which on a lane is compiled in two pieces at once: packing them is most of a start,
   * and the second piece's run costs nothing beside its products. Default 2^28.
   */
  readonly apart?: number;
  /** The type of activations, keys, values and cores; by default what the device has. */
  readonly activations?: FloatType;
  /** Whether a graphics device records decode steps and repeats them, where it can. Default true. */
  readonly recording?: boolean;
  /** Where ONNX Runtime writes its profile. */
  readonly profile?: string;
  /** Hears of what a graphics device computes in a slower way, and why. */
  readonly onWarning?: (message: string) => void;
}

/** A base's parts, for others that lower graphs over the same weights. */
export interface SharedBase {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly weights: DeviceWeights;
  /** Where the weights are mapped from; undefined where they are made in memory. */
  readonly files: WeightFiles | undefined;
  readonly plan: LoweringPlan;
  readonly smoothing: Smoothing | undefined;
  /** Rows of the RoPE tables; every graph over the same weights must have as many. */
  readonly positions: number;
}

export class Base {
  readonly config: DecoderConfig;
  readonly smoothing: Smoothing | undefined;
  readonly #plan: LoweringPlan;
  readonly #device: Device;
  /** Where tokens are drawn: the CPU. */
  readonly #host: Device;
  /** How prompts are computed in a device's own memory. */
  readonly #prompts: Prompts | undefined;
  readonly #checkpoint: Checkpoint;
  readonly #options: BaseOptions;
  readonly #weights: DeviceWeights;
  readonly #files: WeightFiles | undefined;
  readonly #sampler: Sampler;
  /** Draws where a lane's logits are in the device's own memory. */
  readonly #deviceSampler: DeviceSampler;
  readonly #blocks: BlockPool;
  readonly #lanes = new Set<Executor>();

  private constructor(
    { device, host, prompts }: Places,
    checkpoint: Checkpoint,
    options: BaseOptions,
    scales: Smoothing | undefined,
    plan: LoweringPlan,
    files: WeightFiles | undefined,
  ) {
    this.#plan = plan;
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.config = checkpoint.config;
    this.smoothing = scales;
    this.#weights = new DeviceWeights(device, files);
    this.#files = files;
    this.#host = host;
    this.#prompts = prompts;
    this.#sampler = new Sampler(this.#host, checkpoint.config.vocabSize);
    this.#deviceSampler = new DeviceSampler(
      device,
      { device: host, sampler: this.#sampler },
      checkpoint.config.vocabSize,
    );
    this.#blocks = new BlockPool(this.#host);
  }

  /** Calibrates if the dtype needs it. The weights are opened later, with the first lane. */
  static async load(device: Device, checkpoint: Checkpoint, options: BaseOptions): Promise<Base> {
    const plan = device.name === "cpu" ? planOf(options, await integersOf(device)) : devicePlan(
      device.name,
      options,
      options.activations ?? await floatsOf(device, options.dtype),
    );
    const scales = plan.linear("") === "w8a8"
      ? options.smoothing ?? await calibrate(device, checkpoint, options.calibration)
      : undefined;
    const files = await options.files?.(scales);
    const within = files !== undefined && inBlocks(plan) &&
      await packedSumsHold(device, files, { ...plan, offsets: "with blocks" });
    const placed = within ? { ...plan, offsets: "with blocks" } as const : plan;
    const positions = positionsOn(device, options.maxContext);
    const { activations: floats = "float32" } = plan;
    const places = await placesOn(device, checkpoint.config, positions, floats);
    const { warning } = places.prompts ?? {};
    if (warning !== undefined) options.onWarning?.(warning);
    return new Base(places, checkpoint, options, scales, placed, files);
  }

  /** The base joined with a factor set (or none), with slots of its own. */
  async lane(hook?: LinearHook): Promise<Executor> {
    const pieces = this.#lowered({ hook });
    using made = new DisposableStack();
    const session = made.use(await this.#compiled(pieces));
    await this.#device.trim();
    const kv = this.#kvShape;
    const staged = this.#device.name === "cpu"
      ? undefined
      : await StagedKv.open(this.#device, kv, this.#blocks);
    const { vocabSize } = this.config;
    const logits = staged === undefined || !DeviceLogits.fit(vocabSize)
      ? undefined
      : await DeviceLogits.open(this.#device, kv.slots, vocabSize);
    const recording = staged && await this.#recording(pieces[0], logits, hook);
    const executor = new Executor({
      device: this.#device,
      session,
      sampler: logits === undefined ? this.#sampler : this.#deviceSampler,
      scorer: this.#sampler,
      logits,
      recording,
      blocks: this.#blocks,
      kv,
      maxContext: this.#options.maxContext,
      staged,
      prompts: this.#prompts,
      heads: this.config.numHeads,
      vocabSize,
      hook,
      loras: this.#loras(hook),
    });
    made.move();
    this.#lanes.add(executor);
    return executor;
  }

  #parameters(hook: LinearHook | undefined): DecoderParameters {
    return new DecoderParameters(this.#checkpoint, this.#positions, {
      ...(hook === undefined ? {} : { hook }),
      ...(this.smoothing === undefined ? {} : { smoothing: this.smoothing }),
    });
  }

  #lowered({ hook, lora }: {
    readonly hook: LinearHook | undefined;
    readonly lora?: readonly ModuleName[];
  }): readonly Lowered[] {
    const graph = buildDecoder(this.config, this.#positions, { hook, lora });
    const parameters = this.#parameters(hook);
    return (this.#isApart(graph) ? halves(graph) : [graph])
      .map((piece) => lower(piece, parameters, this.#plan));
  }

  #compiled(pieces: readonly Lowered[]): Promise<Session> {
    return this.#weights.chain(pieces, inputs.ids, {
      ...this.#options,
      attention: "direct",
      resident: this.#device.name !== "cpu",
    });
  }

  /** How rows of a lane have LoRAs: on the CPU, with a graph of the lane's with branches for them. */
  #loras(hook: LinearHook | undefined): LoraOptions | undefined {
    if (this.#device.name !== "cpu") return undefined;
    return {
      config: this.config,
      compile: async (lora) => {
        const session = await this.#compiled(this.#lowered({ hook, lora }));
        await this.#device.trim();
        return session;
      },
    };
  }

  /** A LoRA laid out for this base's lanes. @throws as `toResidentLora` does */
  residentLora(lora: Lora): ResidentLora {
    const parameters = this.#parameters(undefined);
    return toResidentLora(lora, this.config, (...of) => parameters.factorScale(...of));
  }

  /** Bytes of a LoRA of these ranks for this base's lanes. */
  residentLoraBytes(ranks: LoraRanks): number {
    return residentLoraBytes(this.config, ranks);
  }

  /** The step for one token of each row, where the device can record it; else it is told why not. */
  async #recording(
    lowered: Lowered,
    logits: DeviceLogits | undefined,
    hook: LinearHook | undefined,
  ): Promise<Recording | undefined> {
    if (this.#options.recording === false) return undefined;
    const lack = this.#lackOfRecording(logits, hook);
    if (lack !== undefined) return this.#unrecorded(hook, lack);
    const step = {
      ...lowered,
      model: (places?: WeightPlaces) => decodeModel(lowered.model(places)),
    };
    try {
      return {
        session: await this.#weights.session(step, {
          ...this.#options,
          resident: true,
          capture: true,
        }),
        feeds: this.#deviceSampler,
        onUnrecorded: (why) => this.#unrecorded(hook, why),
      };
    } catch (error) {
      // some node has no kernel on the device
      if (error instanceof RuntimeError) return this.#unrecorded(hook, error.message);
      throw error;
    }
  }

  #lackOfRecording(
    logits: DeviceLogits | undefined,
    hook: LinearHook | undefined,
  ): string | undefined {
    const { vocabSize } = this.config;
    const window = narrowestWindow(this.config) ?? Infinity;
    if (logits === undefined) return `logits of ${vocabSize} tokens do not stay on the device`;
    if (window < this.#positions) return "the model has a sliding window";
    if (hook === undefined || CoreCopies.fit(hook.rank, this.activations)) return undefined;
    return `cores of rank ${hook.rank} have no views on the device`;
  }

  #unrecorded(hook: LinearHook | undefined, why: string): undefined {
    const lane = hook === undefined ? "the base" : `factor set ${hook.digest.slice(0, 12)}`;
    this.#options.onWarning?.(`decode steps of ${lane} are not recorded, so cost more: ${why}`);
  }

  /** Rows of caches and of RoPE's tables. */
  get #positions(): number {
    return positionsOn(this.#device, this.#options.maxContext);
  }

  /** The CPU's kernels pack their weights at each start. */
  #isApart(graph: Graph): boolean {
    const { apart = 2 ** 28 } = this.#options;
    return this.#device.name === "cpu" && weightCount(graph) >= apart;
  }

  get #kvShape(): KvShape {
    const { numLayers: layers, numKvHeads: kvHeads, headDim } = this.config;
    const { maxBatch: slots } = this.#options;
    return { layers, slots, kvHeads, capacity: this.#positions, headDim, dtype: this.activations };
  }

  /** Whether attention over prompts is right in some way of computing it. */
  get promptsHold(): boolean {
    return this.#prompts?.holds ?? true;
  }

  get dtype(): ServingDtype {
    return this.#options.dtype;
  }

  /** The type of activations, keys, values and cores. */
  get activations(): FloatType {
    return this.#plan.activations ?? "float32";
  }

  /** What computes the linears of its layers. */
  get kernel(): LinearKernel {
    return this.#plan.linear("model.layers.0.");
  }

  /**
   * Bytes of a lane over these factors (or none), without the base and without keys and values, unless
   * these are in a device's own memory: there a lane reserves them whole.
   */
  laneBytes(hook?: Pick<LinearHook, "rank" | "modules">): number {
    const { maxBatch } = this.#options;
    const bytes = laneBytes(this.config, maxBatch, hook);
    if (this.#device.name === "cpu") return bytes;
    return bytes + StagedKv.bytesOf(this.#kvShape);
  }

  /** What a trainer shares with the lanes. */
  get shared(): SharedBase {
    return {
      device: this.#device,
      checkpoint: this.#checkpoint,
      weights: this.#weights,
      files: this.#files,
      // gradients are summed in float32
      plan: { ...this.#plan, activations: "float32" },
      smoothing: this.smoothing,
      positions: this.#positions,
    };
  }

  /** Releases a lane and what only it used; resolves when its memory is the system's again. */
  async drop(lane: Executor): Promise<void> {
    this.#lanes.delete(lane);
    lane.release();
    await this.#device.trim();
  }

  release(): void {
    for (const lane of this.#lanes) lane.release();
    this.#lanes.clear();
    this.#deviceSampler.release();
    this.#sampler.release();
    this.#blocks.release();
    this.#weights.release();
    if (this.#host !== this.#device) this.#host.release();
  }
}

/** Where a base is computed, and where its tokens are drawn. */
interface Places {
  readonly device: Device;
  readonly host: Device;
  readonly prompts: Prompts | undefined;
}

function positionsOn({ name }: Device, maxContext: number): number {
  return name === "cpu" ? maxContext : maxContext + SPARE_TOKENS;
}

async function placesOn(
  device: Device,
  config: DecoderConfig,
  positions: number,
  floats: FloatType,
): Promise<Places> {
  if (device.name === "cpu") return { device, host: device, prompts: undefined };
  using opened = new DisposableStack();
  const host = opened.use(openDevice("cpu"));
  const prompts = await promptsOf({ device, host, floats }, config, positions);
  opened.move();
  return { device, host, prompts };
}
