/**
 * A job's files as training examples. A file that does not serve is its job's failure; a store that
 * does not answer is not.
 */
import type { Answers } from "../../src/train/data/messages.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import { DamagedError } from "../../adapters/store/errors.ts";
import { GoneError } from "../../adapters/store/errors.ts";
import type { FileStore, JobRecord } from "../../adapters/store/store.ts";
import { JobFailure } from "./job_status.ts";

export interface ReadExamples {
  readonly examples: readonly Example[];
  /** What was passed over, for people. */
  readonly warnings: readonly string[];
}

/**
 * Reads a JSONL file as it comes. It gives way to other work between lines.
 * @throws {Error} naming lines and reasons, where the file does not serve; what `file` throws
 */
export type ExampleReader = (
  file: AsyncIterable<Uint8Array>,
  options: { readonly signal: AbortSignal; readonly answers: Answers },
) => Promise<ReadExamples>;

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
  job: Pick<JobRecord, "trainingFile" | "validationFile" | "distillation">,
  files: FileStore,
  reader: ExampleReader,
  signal: AbortSignal,
): Promise<Dataset> {
  const answers = job.distillation === undefined ? "required" : "optional";
  const read = (id: string, param: "training_file" | "validation_file") =>
    readOne(id, param, files, (file) => reader(file, { signal, answers }), signal);
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
  reader: (file: AsyncIterable<Uint8Array>) => Promise<ReadExamples>,
  signal: AbortSignal,
): Promise<ReadExamples> {
  const failure = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    return new JobFailure(`invalid_${param}`, `Cannot use ${id}: ${reason}`, param, error);
  };
  const content = new StoredContent(files, id);
  try {
    const read = await reader(content);
    if (read.examples.length === 0) throw new RangeError("it has no examples");
    return { ...read, warnings: read.warnings.map((warning) => `${id}: ${warning}`) };
  } catch (error) {
    signal.throwIfAborted();
    content.checkStore();
    throw failure(error);
  }
}

/** A file's pieces; remembers where the store failed, since that is not the file's fault. */
class StoredContent implements AsyncIterable<Uint8Array> {
  readonly #files: FileStore;
  readonly #id: string;
  #failure: unknown;

  constructor(files: FileStore, id: string) {
    this.#files = files;
    this.#id = id;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      yield* await this.#files.open(this.#id);
    } catch (error) {
      const isOfFile = error instanceof GoneError || error instanceof DamagedError;
      if (!isOfFile) this.#failure = error;
      throw error;
    }
  }

  /** @throws what reading from the store threw, but for a file that has gone or is damaged */
  checkStore(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
