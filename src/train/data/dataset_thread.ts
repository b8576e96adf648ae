/** Reads a training file in a thread of its own, piece by piece; the thread ends with it. */
import type { Dataset, DatasetOptions } from "./dataset.ts";
import type { DatasetOrder, DatasetReply } from "./dataset_protocol.ts";

export interface DatasetThreadOptions extends Pick<DatasetOptions, "maxContext"> {
  /** Of the checkpoint, as `openCheckpoint` takes it. */
  readonly path: string;
  readonly signal?: AbortSignal;
}

/**
 * As `readDatasetInTurns`, off this thread.
 *
 * @throws {Error} with its text; what `file` throws, and what `signal` was aborted with
 */
export async function readDatasetOnThread(
  file: AsyncIterable<Uint8Array>,
  { path, maxContext, signal }: DatasetThreadOptions,
): Promise<Dataset> {
  signal?.throwIfAborted();
  const worker = new Worker(new URL("./dataset_worker.ts", import.meta.url), { type: "module" });
  const tell = (order: DatasetOrder) => worker.postMessage(order);
  const { promise, resolve, reject } = Promise.withResolvers<Dataset>();
  const abort = () => reject(signal?.reason);
  signal?.addEventListener("abort", abort);
  const pieces = file[Symbol.asyncIterator]();
  const feed = async () => {
    const { done, value } = await pieces.next();
    tell(done ? { type: "end" } : { type: "piece", bytes: value });
  };
  worker.onmessage = ({ data: reply }: MessageEvent<DatasetReply>) => {
    if (reply.type === "more") feed().catch(reject);
    else if (reply.type === "done") resolve(reply.dataset);
    else reject(reply.error);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(`Cannot read training data: ${event.message}`));
  };
  try {
    tell({ type: "begin", path, maxContext });
    return await promise;
  } finally {
    signal?.removeEventListener("abort", abort);
    worker.terminate();
    await pieces.return?.();
  }
}
