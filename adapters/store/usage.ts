/** What was used, by whom: one record a request or training job, added once, and their sums. */
import { type RawBuilder, sql } from "kysely";
import type { Db } from "./database/kysely.ts";
import type { JobRecord } from "./jobs/job_records.ts";

export interface UsageRecord {
  /** Made once by whoever counts; adding it again changes nothing. */
  readonly id: string;
  /** Unix milliseconds. */
  readonly at: number;
  readonly tenant: string;
  /** null in open mode. */
  readonly keyId: string | null;
  readonly model: string;
  readonly kind: "chat" | "completion" | "embedding" | "training";
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

/** Rows of one statement. */
const BATCH = 500;
/** How far servers' clocks may be apart, in milliseconds. */
const CLOCKS_MS = 3_600_000;

const DAY_MS = 86_400_000;
const KEYS: Readonly<Record<UsageQuery["by"], RawBuilder<string | number>>> = {
  tenant: sql`tenant`,
  model: sql`model`,
  // days since 1970: whole numbers are divided to whole numbers
  day: sql`at / ${sql.lit(DAY_MS)}`,
};

export class UsageStore {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** Idempotent by id. */
  async add(records: readonly UsageRecord[]): Promise<void> {
    for (let at = 0; at < records.length; at += BATCH) {
      await this.#db.insertInto("usage").values(records.slice(at, at + BATCH))
        .onConflict((conflict) => conflict.doNothing()).execute();
    }
  }

  /** Tokens in a training job's records, whose request is the job. */
  async trained(
    { id, tenant, createdAt }: Pick<JobRecord, "id" | "tenant" | "createdAt">,
  ): Promise<number> {
    const { trained } = await this.#db.selectFrom("usage")
      .select(sql<number>`cast(coalesce(sum(trained_tokens), 0) AS bigint)`.as("trained"))
      .where("tenant", "=", tenant).where("at", ">=", createdAt - CLOCKS_MS)
      .where("requestId", "=", id).where("kind", "=", "training").executeTakeFirstOrThrow();
    return trained;
  }

  /** Sums by key, sorted by key. */
  async total({ tenant, from, to, by }: UsageQuery): Promise<readonly UsageTotal[]> {
    let sums = this.#db.selectFrom("usage").select([
      KEYS[by].as("key"),
      sql<number>`count(*)`.as("requests"),
      sum("promptTokens").as("promptTokens"),
      sum("cachedTokens").as("cachedTokens"),
      sum("completionTokens").as("completionTokens"),
      sum("trainedTokens").as("trainedTokens"),
    ]).groupBy("key").orderBy("key");
    if (tenant !== undefined) sums = sums.where("tenant", "=", tenant);
    if (from !== undefined) sums = sums.where("at", ">=", from);
    if (to !== undefined) sums = sums.where("at", "<", to);
    return (await sums.execute()).map(({ key, ...sum }) => ({ key: keyText(key), ...sum }));
  }
}

function keyText(key: string | number): string {
  return typeof key === "string" ? key : new Date(key * DAY_MS).toISOString().slice(0, 10);
}

function sum(column: string): RawBuilder<number> {
  return sql<number>`cast(sum(${sql.ref(column)}) AS bigint)`;
}
