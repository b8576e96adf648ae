/**
 * A job's files as training examples. It owns what a file that does not serve means for its job; how
 * lines are read and rendered is the reader's.
 */
import type { Example } from "../../src/train/model.ts";
import type { FileStore, JobRecord } from "../../adapters/store/store.ts";
import { JobFailure } from "./job_failure.ts";

export interface ReadExamples {
  readonly examples: readonly Example[];
  /** What was passed over, for people. */
  readonly warnings: readonly string[];
}

/**
 * Reads a JSONL file. It gives way to other work between lines.
 * @throws {Error} naming lines and reasons, where the file does not serve
 */
export type ExampleReader = (file: Uint8Array, signal: AbortSignal) => Promise<ReadExamples>;

export interface Dataset {
  readonly train: readonly Example[];
  /** Empty where the job has no validation file. */
  readonly valid: readonly Example[];
  readonly warnings: readonly string[];
}

/**
 * Both files of a job.
 * @throws {JobFailure} naming the file at fault; what `signal` was aborted with
 */
export async function readDataset(
  job: Pick<JobRecord, "trainingFile" | "validationFile">,
  files: FileStore,
  reader: ExampleReader,
  signal: AbortSignal,
): Promise<Dataset> {
  const read = (id: string, param: "training_file" | "validation_file") =>
    readOne(id, param, files, reader, signal);
  const train = await read(job.trainingFile, "training_file");
  if (job.validationFile === null) {
    return { train: train.examples, valid: [], warnings: train.warnings };
  }
  const valid = await read(job.validationFile, "validation_file");
  return {
    train: train.examples,
    valid: valid.examples,
    warnings: [...train.warnings, ...valid.warnings],
  };
}

async function readOne(
  id: string,
  param: "training_file" | "validation_file",
  files: FileStore,
  reader: ExampleReader,
  signal: AbortSignal,
): Promise<ReadExamples> {
  const failure = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    return new JobFailure(`invalid_${param}`, `Cannot use ${id}: ${reason}`, param, error);
  };
  const file = await files.read(id).catch((error) => {
    // what else goes wrong is no fault of the file's
    throw error instanceof TypeError || error instanceof RangeError ? failure(error) : error;
  });
  try {
    const read = await reader(file, signal);
    if (read.examples.length === 0) throw new RangeError("it has no examples");
    return { ...read, warnings: read.warnings.map((warning) => `${id}: ${warning}`) };
  } catch (error) {
    signal.throwIfAborted();
    throw failure(error);
  }
}
