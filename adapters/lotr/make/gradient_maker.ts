/**
 * Factors of gradients without holding up the event loop: the gradients come through a port and take
 * their turns on the device, the products and eigenvectors have a thread until they are done.
 */
import type { GradientSource } from "../../../src/train/gradients/gradient_source.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import { WorkerThread } from "../../../src/util/worker_thread.ts";
import { readFactors } from "../format.ts";
import { type MakerOptions, settle } from "./assemble.ts";
import type { FactorsWork } from "./factors_worker.ts";
import type { GradientFactors, MakerProgress } from "./gradient_factors.ts";

export interface GradientOptions extends MakerOptions {
  readonly source: GradientSource;
  /** Calibration text with loss on every token. */
  readonly examples: readonly Example[];
  readonly progress?: ((progress: MakerProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Factors of the first-step gradients over the examples; the event loop stays free.
 *
 * @throws {RangeError} for a rank that is not possible
 * @throws {TypeError} where there is no example, or a gradient is missing, zero or not finite
 * @throws {DOMException} AbortError where `signal` fires
 */
export async function gradientFactors(options: GradientOptions): Promise<GradientFactors> {
  const settled = settle(options);
  const { source, examples, progress = () => {}, signal } = options;
  if (examples.length === 0) {
    throw new TypeError("Cannot make factors: the calibration text is empty");
  }
  using thread = new WorkerThread<FactorsWork>({
    module: new URL("./factors_worker.ts", import.meta.url),
    failure: "Cannot make factors",
  });
  await thread.call("begin", settled, { signal });
  const gradients = source.weightGradients({
    examples,
    modules: settled.modules,
    onProgress: (done, total) => progress({ phase: "gradients", done, total, what: "tokens" }),
    signal,
  });
  for await (const gradient of gradients) {
    const transfer = [gradient.values.buffer as ArrayBuffer];
    await thread.call("add", gradient, { transfer, progress, signal });
  }
  const made = await thread.call("make", undefined, { progress, signal });
  return { factors: readFactors(made.factors), shares: made.shares };
}
