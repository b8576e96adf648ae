/** What was used, by whom: one record a request or training job. It owns records and sums. */
import type { JobRecord } from "./job_store.ts";

export interface UsageRecord {
  /** Made once by whoever counts; adding it again changes nothing. */
  readonly id: string;
  /** Unix milliseconds. */
  readonly at: number;
  readonly tenant: string;
  /** null in open mode. */
  readonly keyId: string | null;
  readonly model: string;
  readonly kind: "chat" | "completion" | "training";
  readonly promptTokens: number;
  /** Of the prompt's, those that came from the prefix cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly trainedTokens: number;
  readonly requestId: string;
}

export interface UsageQuery {
  /** undefined = all tenants, for administrators. */
  readonly tenant?: string | undefined;
  /** Unix milliseconds, inclusive. */
  readonly from?: number | undefined;
  /** Unix milliseconds, exclusive. */
  readonly to?: number | undefined;
  /** A day is `2026-01-31`, UTC. */
  readonly by: "tenant" | "model" | "day";
}

export interface UsageTotal {
  /** The tenant, the model or the day. */
  readonly key: string;
  readonly requests: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly trainedTokens: number;
}

export interface UsageStore {
  /** Idempotent by id. */
  add(records: readonly UsageRecord[]): Promise<void>;
  /** Tokens in a training job's records, whose request is the job. */
  trained(job: Pick<JobRecord, "id" | "tenant" | "createdAt">): Promise<number>;
  /** Sums by key, sorted by key. */
  total(query: UsageQuery): Promise<readonly UsageTotal[]>;
}
