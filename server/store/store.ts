/**
 * What fine-tuning keeps: files, jobs with their events and checkpoints, and published models. It
 * owns these interfaces and record types only; where records lie (a directory now) is the
 * implementation's. Records are JSON values: what is absent is null. Whatever a promise here has
 * resolved for is durable.
 */
import type { Hyperparameters, SettledHyperparameters } from "../../adapters/training.ts";

/** A slice of a list, newest first unless asked otherwise. */
export interface PageQuery {
  /** Begins behind the item of this id. */
  readonly after: string | undefined;
  readonly limit: number;
  readonly order: "asc" | "desc";
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly hasMore: boolean;
}

export const FILE_PURPOSES = ["fine-tune", "fine-tune-results"] as const;
export type FilePurpose = typeof FILE_PURPOSES[number];

export interface FileRecord {
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  readonly bytes: number;
  /** Unix milliseconds; rising from record to record. */
  readonly createdAt: number;
  /** Of the content, hex. */
  readonly sha256: string;
}

/** Content that has arrived but is no file yet; disposing of it takes it away again. */
export interface StagedFile extends AsyncDisposable {
  readonly bytes: number;
  commit(as: Pick<FileRecord, "filename" | "purpose">): Promise<FileRecord>;
}

export interface FileStore {
  /** Takes content in as it comes; what `content` throws leaves nothing behind. */
  stage(content: AsyncIterable<Uint8Array>): Promise<StagedFile>;
  find(id: string): Promise<FileRecord | undefined>;
  /** @throws {RangeError} where `after` names no file of the list. */
  list(query: PageQuery & { readonly purpose: string | undefined }): Promise<Page<FileRecord>>;
  /** @throws {RangeError} for an unknown id. */
  open(id: string): Promise<ReadableStream<Uint8Array>>;
  /** The whole content. @throws {RangeError | TypeError} for an unknown id or changed content. */
  read(id: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Whether there was such a file. */
  remove(id: string): Promise<boolean>;
}

export const JOB_STATUSES = [
  "validating_files",
  "queued",
  "running",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
] as const;
export type JobStatus = typeof JOB_STATUSES[number];

/** As asked for; "auto" is settled when training starts. The seed is the job's own field. */
export interface JobHyperparameters extends Omit<Hyperparameters, "seed" | "rank"> {
  readonly rank: number | "auto";
  /** Digest of the factor set to train for; null = the default one, until training starts. */
  readonly factors: string | null;
}

export interface JobError {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
}

export interface JobRecord {
  readonly id: string;
  /** Unix milliseconds; rising from record to record. */
  readonly createdAt: number;
  /** The base model's id. */
  readonly model: string;
  readonly tenant: string;
  readonly suffix: string | null;
  readonly seed: number;
  readonly trainingFile: string;
  readonly validationFile: string | null;
  readonly hyperparameters: JobHyperparameters;
  /** What "auto" became; null before the first step. */
  readonly settled: SettledHyperparameters | null;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly status: JobStatus;
  /** Whether its files have passed validation. */
  readonly validated: boolean;
  readonly finishedAt: number | null;
  readonly error: JobError | null;
  readonly fineTunedModel: string | null;
  readonly resultFiles: readonly string[];
  readonly trainedTokens: number | null;
}

/** A job's figures at a step, under OpenAI's names. */
export type StepMetrics = Readonly<Record<string, number>>;

export interface JobEvent {
  readonly id: string;
  readonly createdAt: number;
  readonly level: "info" | "warn" | "error";
  readonly message: string;
  readonly type: "message" | "metrics";
  readonly data: StepMetrics | null;
}

export interface CheckpointRecord {
  readonly id: string;
  readonly jobId: string;
  readonly createdAt: number;
  readonly step: number;
  readonly metrics: StepMetrics;
  /** Digests of the core, and of the factor set that it names. */
  readonly core: string;
  readonly factors: string;
}

export interface JobStore {
  create(job: Omit<JobRecord, "id" | "createdAt">): Promise<JobRecord>;
  /** Replaces the record of the same id. */
  update(job: JobRecord): Promise<void>;
  find(id: string): Promise<JobRecord | undefined>;
  /**
   * `metadata`: jobs that have all of these pairs, null = jobs without any, undefined = all jobs.
   * @throws {RangeError} where `after` names no job.
   */
  list(query: PageQuery & { readonly metadata: JobRecord["metadata"] | undefined }): Promise<
    Page<JobRecord>
  >;
  /** Every job, oldest first. */
  all(): Promise<readonly JobRecord[]>;
  addEvents(jobId: string, events: readonly JobEvent[]): Promise<void>;
  /** @throws {RangeError} where `after` names no event. */
  events(jobId: string, query: PageQuery): Promise<Page<JobEvent>>;
  /** Replaces the state that the job goes on from. */
  saveProgress(jobId: string, bytes: Uint8Array): Promise<void>;
  /** Undefined where there is none, or it is damaged. */
  progress(jobId: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  dropProgress(jobId: string): Promise<void>;
  /** Adds a checkpoint, replacing one of the same step; the oldest beyond a bound are dropped. */
  addCheckpoint(checkpoint: CheckpointRecord, core: Uint8Array): Promise<void>;
  /** Newest first. */
  checkpoints(jobId: string): Promise<readonly CheckpointRecord[]>;
  /** The core file. @throws {RangeError} where it is gone. */
  checkpointCore(checkpoint: CheckpointRecord): Promise<Uint8Array<ArrayBuffer>>;
}

/** A core that a job made, served by name. */
export interface PublishedModel {
  /** `ft:BASE:TENANT:SUFFIX:ID`. */
  readonly id: string;
  readonly jobId: string;
  readonly tenant: string;
  /** Its adapter's name within the tenant. */
  readonly name: string;
  readonly version: number;
  readonly createdAt: number;
  /** Digests of the base, of the core, and of the factor set that it names. */
  readonly base: string;
  readonly core: string;
  readonly factors: string;
  /** What its job says once this is published: a crash in between loses nothing. */
  readonly trainedTokens: number;
  readonly resultFiles: readonly string[];
}

export interface ModelStore {
  /** Writes a model down, replacing one of the same id: the moment at which it is published. */
  publish(model: PublishedModel, core: Uint8Array): Promise<void>;
  /** Oldest first. */
  all(): Promise<readonly PublishedModel[]>;
  find(id: string): Promise<PublishedModel | undefined>;
  /** The core file. @throws {RangeError} where it is gone. */
  core(model: PublishedModel): Promise<Uint8Array<ArrayBuffer>>;
  remove(id: string): Promise<boolean>;
  /** Keeps a factor file; the same digest again changes nothing. */
  addFactors(digest: string, file: Uint8Array): Promise<void>;
  /** Undefined where there is none. */
  factors(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
}

export interface Store extends AsyncDisposable {
  readonly files: FileStore;
  readonly jobs: JobStore;
  readonly models: ModelStore;
}
