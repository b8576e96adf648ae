/**
 * Makes factors of gradients on a thread of their own. It owns the thread's life; what is computed
 * there is `gradient_factors.ts`'.
 */
import type { FactorsOrder, FactorsReply } from "./factors_protocol.ts";
import { readFactors } from "../format.ts";
import type { GradientFactors, MakerProgress } from "./gradient_factors.ts";

export interface ThreadOptions {
  readonly progress: (progress: MakerProgress) => void;
  readonly signal: AbortSignal | undefined;
}

/**
 * `factorsOfGradients`, off this thread.
 * @throws what it throws; the signal's reason
 */
export async function factorsOnThread(
  order: FactorsOrder,
  { progress, signal }: ThreadOptions,
): Promise<GradientFactors> {
  signal?.throwIfAborted();
  const worker = new Worker(new URL("./factors_worker.ts", import.meta.url), { type: "module" });
  const { promise, resolve, reject } = Promise.withResolvers<GradientFactors>();
  const abort = () => reject(signal?.reason);
  signal?.addEventListener("abort", abort);
  worker.onmessage = ({ data: reply }: MessageEvent<FactorsReply>) => {
    switch (reply.type) {
      case "progress":
        return progress(reply.progress);
      case "done":
        return resolve({ factors: readFactors(reply.bytes), shares: reply.shares });
      case "failed":
        return reject(reply.error);
    }
  };
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(`Cannot make factors: ${event.message}`));
  };
  try {
    worker.postMessage(order);
    return await promise;
  } finally {
    signal?.removeEventListener("abort", abort);
    worker.terminate();
  }
}
