/** Reads a training file in a thread of its own, which ends with it. */
import type { TemplateChoice } from "../../checkpoint/checkpoint.ts";
import { WorkerThread } from "../../util/worker_thread.ts";
import type { Dataset, DatasetOptions } from "./dataset.ts";
import type { DatasetWork } from "./dataset_worker.ts";

export interface DatasetThreadOptions extends Pick<DatasetOptions, "maxContext" | "answers"> {
  /** Of the checkpoint, as `openCheckpoint` takes it. */
  readonly path: string;
  readonly template?: TemplateChoice | undefined;
  readonly signal?: AbortSignal;
}

/**
 * As `readDatasetInTurns`, off this thread.
 *
 * @throws {Error} with its text; what `pieces` throws, and what `signal` was aborted with
 */
export async function readDatasetOnThread(
  pieces: AsyncIterable<Uint8Array>,
  { path, template, maxContext, answers, signal }: DatasetThreadOptions,
): Promise<Dataset> {
  using thread = new WorkerThread<DatasetWork>({
    module: new URL("./dataset_worker.ts", import.meta.url),
    failure: "Cannot read training data",
  });
  const iterator = pieces[Symbol.asyncIterator]();
  const file = ReadableStream.from({ [Symbol.asyncIterator]: () => iterator });
  try {
    const asked = { file, path, template, maxContext, answers };
    return await thread.call("read", asked, { transfer: [file], signal });
  } finally {
    // a stream that was handed over cannot be cancelled from here
    await iterator.return?.();
  }
}
