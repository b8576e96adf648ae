/**
 * Weights in device layout as tensors, made once and shared by every session that reads them: those
 * that serve and those that train. Trap: without the shared container each session packs all of the
 * base's weights for itself (134 MB a session on the default base).
 */
import type { Lowered, WeightStore } from "../graph/lowering/lowering.ts";
import type { Weight } from "../graph/lowering/onnx.ts";
import type {
  Device,
  PrepackedWeights,
  Session,
  SessionOptions,
  Tensor,
} from "../runtime/device.ts";

/** Tensors over weights, and their packed forms, shared by the sessions that use them. */
export class DeviceWeights {
  readonly #device: Device;
  readonly #base: WeightStore = new Map();
  readonly #tensors = new Map<object, Tensor>();
  readonly #packed: PrepackedWeights;

  constructor(device: Device) {
    this.#device = device;
    this.#packed = device.prepackedWeights();
  }

  /** Weights of the base are shared by all lanes; factors belong to one. */
  storeFor(hook: string | undefined): WeightStore {
    return hook === undefined ? this.#base : new LayeredStore(this.#base);
  }

  /**
   * Compiles a session over the base's weights. Factors are copied into it and go with it: what is
   * shared, and packed once for all, stays until `release`.
   */
  async session(
    lowered: Lowered,
    options: Pick<SessionOptions, "threads" | "profile" | "attention" | "config">,
  ): Promise<Session> {
    const initializers: Record<string, Tensor> = {};
    const copies: Record<string, Tensor> = {};
    try {
      for (const [name, weight] of lowered.weights) {
        if (isFactor(name)) copies[name] = this.#make(weight);
        else initializers[name] = this.#shared(weight);
      }
      return await this.#device.session(lowered.model, {
        initializers,
        copies,
        prepacked: this.#packed,
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        ...(options.profile === undefined ? {} : { profile: options.profile }),
        ...(options.config === undefined ? {} : { config: options.config }),
        ...(options.attention === undefined ? {} : { attention: options.attention }),
      });
    } finally {
      for (const tensor of Object.values(copies)) tensor.release();
    }
  }

  release(): void {
    for (const tensor of this.#tensors.values()) tensor.release();
    this.#packed.release();
  }

  #shared(weight: Weight): Tensor {
    const known = this.#tensors.get(weight);
    if (known !== undefined) return known;
    const tensor = this.#make(weight);
    this.#tensors.set(weight, tensor);
    return tensor;
  }

  #make({ dtype, shape, data }: Weight): Tensor {
    return this.#device.tensor(dtype, shape, data);
  }
}

function isFactor(name: string): boolean {
  return name.startsWith("lotr.");
}

/** A store of a lane's factors before the base's weights. */
class LayeredStore extends Map<string, Weight> {
  readonly #base: WeightStore;

  constructor(base: WeightStore) {
    super();
    this.#base = base;
  }

  override get(name: string): Weight | undefined {
    return super.get(name) ?? this.#base.get(name);
  }

  override set(name: string, weight: Weight): this {
    if (isFactor(name)) return super.set(name, weight);
    this.#base.set(name, weight);
    return this;
  }
}
