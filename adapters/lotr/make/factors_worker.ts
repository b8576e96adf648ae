/**
 * The thread on which gradients become factors: seconds of products and eigenvectors that would hold
 * up the event loop, and every stream that is served by it.
 */
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import { serve, type ServedCall } from "../../../src/util/worker_serve.ts";
import { writeFactors } from "../format.ts";
import type { Settled } from "./assemble.ts";
import { factorsOfGradients, type MakerProgress } from "./gradient_factors.ts";

interface Asked {
  readonly settled: Settled;
  readonly gradients: readonly LinearMatrix[];
}

const work = {
  /** `factors` is a factor file. */
  make({ settled, gradients }: Asked, { progress }: ServedCall<MakerProgress>) {
    const { factors, shares } = factorsOfGradients(settled, gradients, progress);
    return { factors: writeFactors(factors), shares };
  },
};

export type FactorsWork = typeof work;

serve(work);
