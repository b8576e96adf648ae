/**
 * What making factors asks of a model: the gradient of the language-model loss for each frozen
 * weight, summed over a calibration corpus, one after the other: all of them are as large as the
 * weights in float32. What becomes of them is in `adapters/lotr/make/gradient_factors.ts`.
 */
import type { ModuleName } from "../../models/hook.ts";
import type { Example } from "./model.ts";

/** A matrix for one linear of one layer: a gradient, or a weight as `x · W` reads it. */
export interface LinearMatrix {
  readonly layer: number;
  readonly module: ModuleName;
  /** [d_in, d_out], row major; belongs to whoever receives it. */
  readonly values: Float32Array;
}

export interface WeightGradientRequest {
  /** Each counts by the weights of its tokens. */
  readonly examples: readonly Example[];
  readonly modules: readonly ModuleName[];
  /** Hears of tokens done, of all; a token counts as often as it is passed. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A frozen model that can be differentiated by its own weights. */
export interface GradientSource {
  /**
   * d (Σ over examples and tokens of weight · -log p(token)) / dW of each layer and module asked
   * for, at the base as it is: no adapter. Layer by layer, in the order of `modules`.
   *
   * @throws {DOMException} AbortError where `signal` fires
   */
  weightGradients(request: WeightGradientRequest): AsyncIterable<LinearMatrix>;
  release(): void;
}
