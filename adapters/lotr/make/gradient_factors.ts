/**
 * The `gradient` maker: factors of the directions in which language modelling wants to move the
 * frozen weights (the tensor form of LoRA-SB's start, arXiv 2411.19557). Seconds of work:
 * `gradient_maker.ts` has it done in a thread.
 */
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import { SITE_OF } from "../../../src/models/hook.ts";
import { type MakerOptions, settle, type Settled } from "./assemble.ts";
import type { FactorSet } from "../factors.ts";
import { type Dense, dense, scaled } from "../linalg.ts";
import { tuckerFactors, TuckerSums } from "./tucker.ts";

/** `done` of `total` in the phase; both phases take about as long as their totals say. */
export interface MakerProgress {
  readonly phase: "gradients" | "factors";
  readonly done: number;
  readonly total: number;
  /** What was done last: a linear's or a basis' name. */
  readonly what: string;
}

export interface GradientFactors {
  readonly factors: FactorSet;
  /** Share of the normalised gradients' energy that each basis holds, by `A.site` and `B.module`. */
  readonly shares: ReadonlyMap<string, number>;
}

/**
 * Tucker-2 of the stacked gradients, each layer's and module's brought to norm 1 first, so that
 * every layer has the same say. Of a gradient no more is kept than its share of the sums.
 */
export class GradientSums {
  readonly #settled: Settled;
  readonly #sums: TuckerSums;
  /** Linears whose gradient is still to come. */
  readonly #missing: Set<string>;
  readonly #total: number;
  #done = 0;

  /** @throws {RangeError | TypeError} for a rank or modules that are not possible */
  constructor(options: MakerOptions) {
    const settled = settle(options);
    const { stack, modules } = settled;
    const layers = Array.from({ length: stack.layers }, (_, layer) => layer);
    this.#settled = settled;
    this.#sums = new TuckerSums(stack, modules);
    this.#missing = new Set(
      layers.flatMap((layer) => modules.map((module) => nameOf({ layer, module }))),
    );
    this.#total = this.#missing.size + this.#sums.count;
  }

  /** @throws {TypeError} where the gradient is zero or not finite */
  add(gradient: LinearMatrix, progress?: (progress: MakerProgress) => void): void {
    this.#sums.add(gradient.module, normalised(this.#settled, gradient));
    this.#missing.delete(nameOf(gradient));
    this.#tell(nameOf(gradient), progress);
  }

  /** @throws {TypeError} where a gradient is missing */
  factors(progress?: (progress: MakerProgress) => void): GradientFactors {
    const [missing] = this.#missing;
    if (missing !== undefined) {
      throw new TypeError(`Cannot make factors: no gradient of ${missing}`);
    }
    const shares = new Map<string, number>();
    const factors = tuckerFactors(this.#settled, this.#sums, (name, share) => {
      shares.set(name, share);
      this.#tell(name, progress);
    });
    return { factors, shares };
  }

  #tell(what: string, progress?: (progress: MakerProgress) => void): void {
    progress?.({ phase: "factors", done: ++this.#done, total: this.#total, what });
  }
}

function normalised({ stack }: Settled, { layer, module, values }: LinearMatrix): Dense {
  const matrix = dense(stack.inputs[SITE_OF[module]], stack.outputs[module], values);
  const norm = Math.sqrt(matrix.data.reduce((sum, value) => sum + value * value, 0));
  if (!Number.isFinite(norm) || norm === 0) {
    throw new TypeError(
      `Cannot make factors: the gradient of ${nameOf({ layer, module })} has norm ${norm}, ` +
        "a positive one is wanted",
    );
  }
  return scaled(matrix, 1 / norm);
}

function nameOf({ layer, module }: Pick<LinearMatrix, "layer" | "module">): string {
  return `layer ${layer} ${module}`;
}
