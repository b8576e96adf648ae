/** Training jobs as they are written down, with their events and checkpoints. */
import type { Following } from "../../training/distillation/taught_rows.ts";
import type { SettledHyperparameters } from "../../training/training.ts";
import type { AskedHyperparameters } from "../../training/hyperparameters.ts";

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
/** Of jobs that nothing will change any more. */
export const ENDED_JOBS: readonly JobStatus[] = ["succeeded", "failed", "cancelled"];

/** As asked for; "auto" is settled when training starts. The seed is the job's own field. */
export interface JobHyperparameters extends Omit<AskedHyperparameters, "seed"> {
  /** Digest of the factor set to train for; null = the default one, until training starts. */
  readonly factors: string | null;
}

/** Whom a job follows, and how. */
export interface JobDistillation extends Omit<Following, "seed"> {
  /** The full name of a served adapter of the job's tenant, with its version. */
  readonly teacher: string;
  /** Of the adapter, SHA-256 in hex. */
  readonly digest: string;
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
  /** Missing where it learns the rows' own tokens. */
  readonly distillation?: JobDistillation;
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
