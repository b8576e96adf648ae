/**
 * What a job does before it trains where it follows a teacher: the teacher answers and says what it
 * expects, once, as a background tenant of the engine. What it said is the job's progress, before
 * training begins and beside its state ever after, so that a job that goes on asks no row twice.
 */
import type { JobDistillation, JobRecord } from "../../adapters/store/jobs/job_records.ts";
import type { Teacher } from "../../adapters/training/distillation/teacher.ts";
import {
  heldMass,
  heldOut,
  type Shelf,
  taughtRows,
} from "../../adapters/training/distillation/taught_rows.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../src/checkpoint/formats/safetensors.ts";
import type { ServedCore } from "../../src/engine/request/request.ts";
import type { Example } from "../../src/train/gradients/model.ts";
import type { Dataset } from "./dataset.ts";
import type { TrainingRun } from "./journal.ts";
import { JobFailure } from "./job_status.ts";

export interface TeacherPorts {
  /** What an adapter's full name stands for now, of any tenant. */
  readonly served: (name: string) => Promise<ServedCore | undefined>;
  readonly teacher: (adapter: ServedCore) => Teacher;
  /** Digest of the base, hex. */
  readonly base: string;
}

const FORMAT = "lembas.distillation/1";
const STATE = "state";
/** Milliseconds between two writings of what a teacher has said so far. */
const WRITE_EVERY = 10_000;

/** What a teacher said in one job, and the training's state behind it. */
export class TaughtProgress {
  readonly #tensors: Map<string, SafetensorsTensor>;

  /** @param bytes what was kept; undefined = nothing yet */
  constructor(bytes: Uint8Array | undefined) {
    this.#tensors = new Map(bytes && parseSafetensors(bytes).tensors);
  }

  /** Undefined where no step of the training was kept. */
  get state(): Uint8Array | undefined {
    return this.#tensors.get(STATE)?.data;
  }

  /** @param onWrite awaited for each part that is new */
  shelf(digest: string, onWrite: () => Promise<void>): Shelf {
    const nameOf = (part: number) => `${digest}/${part}`;
    return {
      read: (part) => Promise.resolve(this.#tensors.get(nameOf(part))?.data.slice()),
      write: async (part, bytes) => {
        this.#tensors.set(nameOf(part), tensorOf(bytes));
        await onWrite();
      },
    };
  }

  /** All of it as one file, with the training's state if there is one. */
  bytes(state?: Uint8Array): Uint8Array<ArrayBuffer> {
    const tensors = [...this.#tensors].filter(([name]) => name !== STATE);
    const kept = state === undefined ? tensors : [...tensors, [STATE, tensorOf(state)] as const];
    return writeSafetensors(kept, [["format", FORMAT]]);
  }
}

/**
 * The dataset as the job's teacher has it; without a validation file a tenth is held out.
 * @throws {JobFailure} where the teacher is gone, or a row has no answer and should; what the job's
 *   signal was aborted with
 */
export async function taughtDataset(
  run: TrainingRun,
  asked: JobDistillation,
  progress: TaughtProgress,
  ports: TeacherPorts,
): Promise<Dataset> {
  const { job, data, dataset, journal, held } = run;
  const teacher = ports.teacher(await adapterOf(job, asked, ports));
  const { train, valid } = dataset.valid.length > 0 ? dataset : heldOut(dataset.train, job.seed);
  let written = performance.now();
  const write = async () => {
    if (performance.now() - written < WRITE_EVERY) return;
    await data.jobs.saveProgress(job.id, progress.bytes());
    written = performance.now();
  };
  const taught = (rows: readonly Example[]) =>
    taughtRows(rows, {
      ...{ teacher, base: ports.base, signal: held.signal },
      following: { ...asked, seed: job.seed },
      shelf: (digest) => progress.shelf(digest, write),
    });
  if (progress.state === undefined) {
    journal.message(`${asked.teacher} says what it expects of ${train.length + valid.length} rows`);
  }
  try {
    const all = { train: await taught(train), valid: await taught(valid) };
    const mass = (100 * heldMass([...all.train, ...all.valid])).toFixed(2);
    journal.message(`Its ${asked.count} likeliest tokens hold ${mass}% of its probability`);
    if (progress.state === undefined) await data.jobs.saveProgress(job.id, progress.bytes());
    return { ...dataset, ...all };
  } catch (error) {
    held.signal.throwIfAborted();
    if (!(error instanceof RangeError)) throw error;
    throw new JobFailure("invalid_training_file", error.message, "training_file", error);
  }
}

/** @throws {JobFailure} where the name stands for nothing, for another content or another tenant's */
async function adapterOf(
  { tenant }: JobRecord,
  { teacher, digest }: JobDistillation,
  { served }: TeacherPorts,
): Promise<ServedCore> {
  const found = await served(teacher);
  if (found?.digest === digest && found.tenant === tenant) return found;
  throw new JobFailure(
    "teacher_not_found",
    `Cannot follow '${teacher}': it is not served any more as it was when the job was created.`,
    "method.distillation.teacher",
  );
}

function tensorOf(data: Uint8Array): SafetensorsTensor {
  return { dtype: "U8", shape: [data.length], data };
}
