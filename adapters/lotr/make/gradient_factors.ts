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
 * every layer has the same say.
 *
 * @throws {TypeError} where a gradient is missing, zero or not finite
 */
export function factorsOfGradients(
  options: MakerOptions,
  gradients: readonly LinearMatrix[],
  progress: (progress: MakerProgress) => void = () => {},
): GradientFactors {
  const settled = settle(options);
  const sums = new TuckerSums(settled.stack, settled.modules);
  const shares = new Map<string, number>();
  const wanted = checkComplete(settled, gradients);
  const total = wanted.length + sums.count;
  let done = 0;
  const tell = (what: string) => progress({ phase: "factors", done: ++done, total, what });
  for (const gradient of wanted) {
    sums.add(gradient.module, normalised(settled, gradient));
    tell(nameOf(gradient));
  }
  const factors = tuckerFactors(settled, sums, (name, share) => {
    shares.set(name, share);
    tell(name);
  });
  return { factors, shares };
}

/** The gradients of the adapted linears, layer by layer. */
function checkComplete(
  { stack, modules }: Settled,
  gradients: readonly LinearMatrix[],
): LinearMatrix[] {
  const known = new Map(gradients.map((gradient) => [nameOf(gradient), gradient]));
  return Array.from({ length: stack.layers }, (_, layer) =>
    modules.map((module) => {
      const gradient = known.get(nameOf({ layer, module }));
      if (gradient === undefined) {
        throw new TypeError(`Cannot make factors: no gradient of ${nameOf({ layer, module })}`);
      }
      return gradient;
    })).flat();
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
