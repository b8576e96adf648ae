/**
 * Training over a loaded base: the models that compute gradients share its weights with serving,
 * and take its device turn by turn. Close it before the base.
 */
import { Once } from "../../src/util/memo.ts";
import type { SharedBase } from "../../src/executor/base.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import type { Turn } from "../../src/runtime/device_lock.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import { longestRow, type Pieces } from "../../src/train/gradients/loss_program.ts";
import { LotrGradients, type LotrGradientsOptions } from "../../src/train/gradients/lotr_model.ts";
import { fitsInFloat32, float32Gradients, servedGradients } from "../lotr/make/base_gradients.ts";
import { CoreTrainer } from "./core_trainer.ts";
import { defaultFactors } from "../lotr/make/default_factors.ts";
import type { FactorSet } from "../lotr/factors.ts";
import type { MakerProgress } from "../lotr/make/gradient_factors.ts";

export interface BaseTrainerOptions {
  /** Takes the device for one piece of a pass. */
  readonly turn: () => Turn | Promise<Turn>;
  /** How long a turn is; default: half a layer. */
  readonly pieces?: Pieces;
  /** Hears of the default factor set being made. */
  readonly onFactors?: (progress: MakerProgress) => void;
}

/** Trains cores over one base. Close it before the base. */
export class BaseTrainer implements AsyncDisposable {
  /** Trains cores; many at once share micro-batches. */
  readonly trainer: CoreTrainer;
  readonly #base: SharedBase;
  readonly #options: BaseTrainerOptions;
  readonly #factors = new Once(() => this.#makeFactors());

  constructor(base: SharedBase, options: BaseTrainerOptions) {
    this.#base = base;
    this.#options = options;
    this.trainer = new CoreTrainer({
      models: {
        core: (factors, taught) => DecoderGradients.compile(this.#over(factors, taught)),
        lotr: (factors, taught) => LotrGradients.compile(this.#over(factors, taught)),
      },
      defaultFactors: () => this.defaultFactors(),
    });
  }

  /** Most tokens of a training row. */
  get maxContext(): number {
    const { checkpoint: { config }, positions, device } = this.#base;
    return longestRow(config, positions, device);
  }

  /** The set of requests that name none: from the cache, or made now, once. */
  defaultFactors(): Promise<FactorSet> {
    return this.#factors.get();
  }

  close(): Promise<void> {
    return this.trainer.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #makeFactors(): Promise<FactorSet> {
    const { checkpoint, device } = this.#base;
    const { turn, onFactors } = this.#options;
    return defaultFactors({
      checkpoint,
      openSource: () =>
        fitsInFloat32(checkpoint)
          ? float32Gradients(checkpoint, { device, turn })
          : servedGradients(this.#base, { turn }),
      progress: onFactors,
    });
  }

  /** What a model over these factors is compiled with. */
  #over(factors: FactorSet, taught: number | undefined): LotrGradientsOptions {
    const { device, checkpoint, weights, plan, smoothing, positions } = this.#base;
    const { turn, pieces } = this.#options;
    const hook = { hook: factors, ...(smoothing === undefined ? {} : { smoothing }) };
    return {
      config: checkpoint.config,
      hook: factors,
      scale: factors.alpha / factors.rank,
      positions,
      taught,
      device,
      weights,
      plan,
      parameters: new DecoderParameters(checkpoint, positions, hook),
      turn,
      ...(pieces === undefined ? {} : { pieces }),
    };
  }
}
