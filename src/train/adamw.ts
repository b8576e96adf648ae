/**
 * AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101) as a
 * pure pair of `init` and `update` over one flat vector, and clipping by the global norm. It computes
 * on the host whatever the device: gradients come there summed over rows, a core is some ten thousand
 * numbers, whose update takes less than a launch on a device, and states are written to disk.
 */

/** First and second moments of the gradient, and how many updates they have seen. */
export interface AdamState {
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly updates: number;
}

export interface AdamOptions {
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** Decoupled: each update takes rate · weightDecay of a parameter away. */
  readonly weightDecay: number;
}

/** PyTorch's defaults, without weight decay. */
export const ADAM_DEFAULTS: AdamOptions = {
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
};

/** The learning rate of the next `length` parameters. */
export interface RateSpan {
  readonly length: number;
  readonly rate: number;
}

/** One rate for all parameters, or spans that cover them in order. */
export type Rate = number | readonly RateSpan[];

export interface AdamW {
  /** The state before the first update of `count` parameters. */
  init(count: number): AdamState;
  /**
   * One update; neither argument is changed.
   * @throws {RangeError} where lengths do not agree.
   */
  update(
    gradient: Float32Array,
    state: AdamState,
    parameters: Float32Array,
    rate: Rate,
  ): { readonly parameters: Float32Array; readonly state: AdamState };
}

/**
 * An optimizer of these options; everything it needs to remember is in the states it returns.
 *
 * @example
 * ```ts
 * import { adamw } from "./adamw.ts";
 * const optimizer = adamw({ weightDecay: 0.01 });
 * const start = new Float32Array([1, -1]);
 * const moved = optimizer.update(new Float32Array([3, -2]), optimizer.init(2), start, 0.1);
 * console.assert(moved.parameters[0] < 1 && moved.parameters[1] > -1);
 * ```
 */
export function adamw(options: Partial<AdamOptions> = {}): AdamW {
  const settled = { ...ADAM_DEFAULTS, ...options };
  return {
    init: (count) => ({
      first: new Float32Array(count),
      second: new Float32Array(count),
      updates: 0,
    }),
    update(gradient, state, parameters, rate) {
      const spans = typeof rate === "number" ? [{ length: parameters.length, rate }] : rate;
      checkLengths(gradient, state, parameters, spans);
      const next = {
        parameters: parameters.slice(),
        first: state.first.slice(),
        second: state.second.slice(),
        updates: state.updates + 1,
      };
      let from = 0;
      for (const span of spans) {
        move(settled, gradient, next, from, span);
        from += span.length;
      }
      const { parameters: moved, ...moments } = next;
      return { parameters: moved, state: moments };
    },
  };
}

/** Moves one span of copies in place. */
function move(
  { beta1, beta2, epsilon, weightDecay }: AdamOptions,
  gradient: Float32Array,
  next: AdamState & { readonly parameters: Float32Array },
  from: number,
  { length, rate }: RateSpan,
): void {
  const { parameters, first, second, updates } = next;
  const step = rate / (1 - beta1 ** updates);
  const correction = Math.sqrt(1 - beta2 ** updates);
  const kept = 1 - rate * weightDecay;
  for (let i = from; i < from + length; i++) {
    const g = gradient[i];
    const m = beta1 * first[i] + (1 - beta1) * g;
    const v = beta2 * second[i] + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    parameters[i] = kept * parameters[i] - step * m / (Math.sqrt(v) / correction + epsilon);
  }
}

function checkLengths(
  gradient: Float32Array,
  state: AdamState,
  parameters: Float32Array,
  spans: readonly RateSpan[],
): void {
  const covered = spans.reduce((sum, { length }) => sum + length, 0);
  const lengths = [gradient.length, state.first.length, state.second.length, covered];
  if (lengths.some((length) => length !== parameters.length)) {
    throw new RangeError(
      `Cannot update ${parameters.length} parameters: the gradient has ${gradient.length}, ` +
        `the moments have ${state.first.length} and ${state.second.length}, ` +
        `rates cover ${covered}`,
    );
  }
}

/** The L2 norm; NaN or infinite where an element is. */
export function l2Norm(values: Float32Array | Float64Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  return Math.sqrt(sum);
}

/** A mean gradient of at most a norm. */
export interface ClippedGradient {
  readonly gradient: Float32Array;
  /** Before clipping. */
  readonly norm: number;
}

/** sum / weight, shortened to the L2 norm `clip` where it is longer. */
export function clippedMean(sum: Float64Array, weight: number, clip: number): ClippedGradient {
  const norm = l2Norm(sum) / weight;
  const scale = (norm > clip ? clip / norm : 1) / weight;
  const gradient = new Float32Array(sum.length);
  for (let i = 0; i < sum.length; i++) gradient[i] = sum[i] * scale;
  return { gradient, norm };
}
