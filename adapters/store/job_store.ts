/**
 * Training jobs of one tenant with their events, progress and checkpoints: records and interface.
 * Which status follows which it does not know.
 */
import type { SettledHyperparameters } from "../training/training.ts";
import type { AskedHyperparameters } from "../training/hyperparameters.ts";
import type { Page, PageQuery } from "./paging.ts";

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
export interface JobHyperparameters extends Omit<AskedHyperparameters, "seed"> {
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
  /** Times in a row that its training was begun without a step that was kept; 0 for a new job. */
  readonly attempts: number;
}

/** What may change of a job. */
export type JobPatch = Partial<Omit<JobRecord, "id" | "createdAt" | "tenant">>;

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

/** Of one tenant. What names a job of another one, or none, throws RangeError. */
export interface JobStore {
  /** @throws {RangeError} where the tenant is not there, or `job.tenant` is another one */
  create(job: Omit<JobRecord, "id" | "createdAt">): Promise<JobRecord>;
  /**
   * Applies what `change` makes of the record as it is then: no other change, of this process or
   * another one, comes in between (a transaction that locks the row). Told as a change of kind "job".
   * @throws what `change` throws: then nothing is changed
   */
  change(id: string, change: JobPatch | ((job: JobRecord) => JobPatch)): Promise<JobRecord>;
  find(id: string): Promise<JobRecord | undefined>;
  /** Jobs whose ids end so, oldest first. */
  endingWith(tail: string): Promise<readonly JobRecord[]>;
  /**
   * `metadata`: jobs that have all of these pairs, null = jobs without any, undefined = all jobs.
   * @throws {RangeError} where `after` names no job.
   */
  list(query: PageQuery & { readonly metadata: JobRecord["metadata"] | undefined }): Promise<
    Page<JobRecord>
  >;
  /** Every job, oldest first. */
  all(): Promise<readonly JobRecord[]>;
  /** An event of an id that is there already changes nothing. */
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
  /** The core file; its digest is checked. @throws {RangeError | TypeError} gone, or damaged */
  checkpointCore(checkpoint: CheckpointRecord): Promise<Uint8Array<ArrayBuffer>>;
}

/** Jobs of all tenants, for the runner, for metrics and for administrators. */
export interface JobDirectory {
  /** Jobs that have not ended (paused ones too), oldest first. */
  unfinished(): Promise<readonly JobRecord[]>;
  /** Every job, oldest first. */
  all(): Promise<readonly JobRecord[]>;
  /** @throws {RangeError} where `after` names no job. */
  list(query: PageQuery): Promise<Page<JobRecord>>;
  /** How many jobs there are of each status; those without any are left out. */
  counts(): Promise<ReadonlyMap<JobStatus, number>>;
}
