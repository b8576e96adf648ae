/**
 * Weights in device layout as tensors, made once and shared by every session that reads them: those
 * that serve and those that train. It knows no graph's meaning.
 */
import type { Lowered, WeightStore } from "../graph/lowering.ts";
import type { Weight } from "../graph/onnx.ts";
import type { Device, Session, SessionOptions, Tensor } from "../runtime/device.ts";

/** Tensors over weights, shared by the sessions that use them. */
export class DeviceWeights {
  readonly #device: Device;
  readonly #base: WeightStore = new Map();
  readonly #tensors = new Map<object, Tensor>();

  constructor(device: Device) {
    this.#device = device;
  }

  /** Weights of the base are shared by all lanes; factors belong to one. */
  storeFor(hook: string | undefined): WeightStore {
    return hook === undefined ? this.#base : new LayeredStore(this.#base);
  }

  async session(
    lowered: Lowered,
    options: Pick<SessionOptions, "threads" | "profile" | "attention" | "config">,
  ): Promise<Session> {
    const initializers = Object.fromEntries(
      Array.from(lowered.weights, ([name, weight]) => {
        let tensor = this.#tensors.get(weight);
        if (tensor === undefined) {
          tensor = this.#device.tensor(weight.dtype, weight.shape, weight.data);
          this.#tensors.set(weight, tensor);
        }
        return [name, tensor];
      }),
    );
    return await this.#device.session(lowered.model, {
      initializers,
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.profile === undefined ? {} : { profile: options.profile }),
      ...(options.config === undefined ? {} : { config: options.config }),
      ...(options.attention === undefined ? {} : { attention: options.attention }),
    });
  }

  release(): void {
    for (const tensor of this.#tensors.values()) tensor.release();
  }
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
    if (name.startsWith("lotr.")) return super.set(name, weight);
    this.#base.set(name, weight);
    return this;
  }
}
