/** Batches as they are written down. */
import type { Scope } from "../keys.ts";

export const BATCH_STATUSES = [
  "validating",
  "failed",
  "in_progress",
  "finalizing",
  "completed",
  "expired",
  "cancelling",
  "cancelled",
] as const;
export type BatchStatus = typeof BATCH_STATUSES[number];

/** Of batches that nothing will change any more. */
export const ENDED_BATCHES = ["failed", "completed", "expired", "cancelled"] as const;

/** What is wrong with a batch, or with a line of its file. */
export interface BatchError {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
  /** From 1; null = the file as a whole. */
  readonly line: number | null;
}

export interface BatchUsage {
  readonly inputTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

export interface BatchRecord {
  readonly id: string;
  readonly tenant: string;
  /** The base model's id. */
  readonly base: string;
  /** Whom its lines act for: the key that created it (null = none), and its scopes. */
  readonly keyId: string | null;
  readonly scopes: readonly Scope[];
  readonly endpoint: string;
  readonly inputFile: string;
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Seconds after which its output files are gone; null = never. */
  readonly outputExpiresAfter: number | null;
  readonly status: BatchStatus;
  readonly errors: readonly BatchError[];
  /** The model of all its lines; null where they name several, or are not read yet. */
  readonly model: string | null;
  /** Lines of the file, those that were answered, and those that were refused. */
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  readonly usage: BatchUsage;
  readonly outputFile: string | null;
  readonly errorFile: string | null;
  /** Unix milliseconds, these all; rising from record to record. */
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly inProgressAt: number | null;
  readonly finalizingAt: number | null;
  readonly completedAt: number | null;
  readonly failedAt: number | null;
  readonly expiredAt: number | null;
  readonly cancellingAt: number | null;
  readonly cancelledAt: number | null;
}

/** What may change of a batch but by its results. */
export type BatchPatch = Partial<
  Pick<
    BatchRecord,
    | "status"
    | "errors"
    | "model"
    | "total"
    | "expiresAt"
    | "inProgressAt"
    | "finalizingAt"
    | "completedAt"
    | "failedAt"
    | "expiredAt"
    | "cancellingAt"
    | "cancelledAt"
  >
>;

/** A line that has run. */
export interface BatchResult {
  /** Of the input file, from 1. */
  readonly line: number;
  /** Whether it goes into the error file. */
  readonly failed: boolean;
  /** Its line there, with the line break. */
  readonly data: Uint8Array;
  readonly usage: BatchUsage | undefined;
}
