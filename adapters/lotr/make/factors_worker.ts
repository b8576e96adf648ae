/**
 * The thread on which gradients become factors: seconds of products and eigenvectors that would hold
 * up the event loop, and every stream that is served by it.
 */
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import { serve, type ServedCall } from "../../../src/util/worker_serve.ts";
import { writeFactors } from "../format.ts";
import type { Settled } from "./assemble.ts";
import { GradientSums, type MakerProgress } from "./gradient_factors.ts";

/** One set is made in a thread's life: begun, then each gradient added, then made. */
function makeWork() {
  let sums: GradientSums | undefined;
  const begun = () => {
    if (sums === undefined) throw new TypeError("internal: no factor set was begun");
    return sums;
  };
  return {
    begin(settled: Settled) {
      sums = new GradientSums(settled);
    },
    add(gradient: LinearMatrix, { progress }: ServedCall<MakerProgress>) {
      begun().add(gradient, progress);
    },
    /** `factors` is a factor file. */
    make(_: undefined, { progress }: ServedCall<MakerProgress>) {
      const { factors, shares } = begun().factors(progress);
      return { factors: writeFactors(factors), shares };
    },
  };
}

export type FactorsWork = ReturnType<typeof makeWork>;

serve(makeWork());
