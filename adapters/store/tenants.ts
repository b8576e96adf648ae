/** Tenants and their limits; all that a tenant has goes with it. */
import { sql } from "kysely";
import { ConflictError, FieldError } from "../../src/util/errors.ts";
import { tell } from "./changes.ts";
import { removeContents } from "./contents.ts";
import { collectCores } from "./cores/core_rows.ts";
import { type Db, transact, type Trx } from "./database/kysely.ts";
import { noTenant, QuotaError } from "./errors.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "./pages.ts";

/** As a name's first part: letters, digits, `.`, `-`, `_`; at most 64 (`adapters/catalog/name.ts`). */
export const TENANT_ID = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/** null = no limit. */
export interface TenantLimits {
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  /** Requests that run at once. */
  readonly concurrency: number | null;
  /** Requests that wait. */
  readonly queued: number | null;
  /** Bytes of files, cores, checkpoints, stored responses, chats and conversations together. */
  readonly storedBytes: number | null;
  /** Share of the device beside others'; above 0. */
  readonly weight: number;
  /** Lower is served sooner. */
  readonly priority: number;
}

export const NO_LIMITS: TenantLimits = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrency: null,
  queued: null,
  storedBytes: null,
  weight: 1,
  priority: 0,
};

export interface TenantRecord {
  readonly id: string;
  readonly createdAt: number;
  readonly limits: TenantLimits;
}

interface TenantRow {
  readonly id: string;
  readonly createdAt: number;
  readonly limits: string;
}

const COLUMNS = ["id", "createdAt", "limits"] as const;

/** The tenant "default" is there from the beginning. */
export class TenantStore {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** @throws {FieldError} for an id that cannot be one; {ConflictError} if it is taken */
  async create(
    { id, limits }: { readonly id: string; readonly limits?: Partial<TenantLimits> },
  ): Promise<TenantRecord> {
    const made = await this.#insert(id, { ...NO_LIMITS, ...limits });
    if (made !== undefined) return made;
    throw new ConflictError("id", `Cannot create tenant '${id}': there is one already`);
  }

  /** Finds a tenant or makes it, without limits. @throws {FieldError} as `create` does */
  async ensure(id: string): Promise<TenantRecord> {
    for (;;) {
      const found = await this.find(id) ?? await this.#insert(id, NO_LIMITS);
      if (found !== undefined) return found;
    }
  }

  async find(id: string): Promise<TenantRecord | undefined> {
    const row = await this.#db.selectFrom("tenants").select(COLUMNS).where("id", "=", id)
      .executeTakeFirst();
    return row && toRecord(row);
  }

  /** @throws {RangeError} where `after` names no tenant */
  async list(query: PageQuery): Promise<Page<TenantRecord>> {
    const { after, order } = query;
    const from = after === undefined ? undefined : await this.#seqOf(after);
    let rows = this.#db.selectFrom("tenants").select(COLUMNS).orderBy("seq", order);
    if (from !== undefined) rows = rows.where("seq", beyond(order), from);
    return toPage(await limited(rows, query).execute(), query, toRecord);
  }

  /** Replaces the limits. @throws {RangeError} where there is no such tenant */
  async update({ id, limits }: Pick<TenantRecord, "id" | "limits">): Promise<void> {
    await transact(this.#db, async (trx) => {
      const row = await trx.updateTable("tenants").set({ limits: JSON.stringify(limits) })
        .where("id", "=", id).returning("id").executeTakeFirst();
      if (row === undefined) throw noTenant(id);
      await tell(trx, "tenant", { tenant: id, id });
    });
  }

  /** With all it has: keys, files, uploads, jobs, batches, models, cores, responses, chats, conversations; usage stays. Whether there was one. */
  remove(id: string): Promise<boolean> {
    return transact(this.#db, async (trx) => {
      const row = await trx.selectFrom("tenants").select("id").where("id", "=", id).forUpdate()
        .executeTakeFirst();
      if (row === undefined) return false;
      const [contents, digests] = [await contentsOf(trx, id), await digestsOf(trx, id)];
      await trx.deleteFrom("tenants").where("id", "=", id).execute();
      await removeContents(trx, contents);
      await collectCores(trx, digests);
      for (const kind of ["tenant", "key", "core", "job", "batch"] as const) {
        await tell(trx, kind, { tenant: id, ...(kind === "tenant" && { id }) });
      }
      return true;
    });
  }

  /** Bytes it stores, as its limit counts them. */
  async storedBytes(id: string): Promise<number> {
    return (await this.storedBytesOf([id])).get(id) ?? 0;
  }

  /** The same of many in one question; who is not there is left out. */
  async storedBytesOf(ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (ids.length === 0) return new Map();
    const rows = await this.#db.selectFrom("tenants").select(["id", "storedBytes"])
      .where("id", "in", ids).execute();
    return new Map(rows.map(({ id, storedBytes }) => [id, storedBytes]));
  }

  /** Undefined where there is one already. */
  async #insert(id: string, limits: TenantLimits): Promise<TenantRecord | undefined> {
    checkId(id);
    const row = await this.#db.insertInto("tenants")
      .values({ id, createdAt: Date.now(), limits: JSON.stringify(limits) })
      .onConflict((conflict) => conflict.doNothing())
      .returning(COLUMNS).executeTakeFirst();
    if (row === undefined) return undefined;
    await tell(this.#db, "tenant", { tenant: id, id });
    return toRecord(row);
  }

  async #seqOf(id: string): Promise<number> {
    const row = await this.#db.selectFrom("tenants").select("seq").where("id", "=", id)
      .executeTakeFirst();
    return row?.seq ?? notListed(id);
  }
}

async function contentsOf(trx: Trx, tenant: string): Promise<number[]> {
  const files = await trx.selectFrom("files").select("content").where("tenant", "=", tenant)
    .execute();
  const progress = await trx.selectFrom("jobProgress")
    .innerJoin("jobs", "jobs.id", "jobProgress.job")
    .select("content").where("tenant", "=", tenant).execute();
  const parts = await trx.selectFrom("uploadParts")
    .innerJoin("uploads", "uploads.id", "uploadParts.upload")
    .select("content").where("tenant", "=", tenant).execute();
  return [...files, ...progress, ...parts].map(({ content }) => content);
}

async function digestsOf(trx: Trx, tenant: string): Promise<string[]> {
  const versions = await trx.selectFrom("coreVersions").select("digest")
    .where("tenant", "=", tenant).execute();
  const checkpoints = await trx.selectFrom("checkpoints")
    .innerJoin("jobs", "jobs.id", "checkpoints.job")
    .select("core").where("tenant", "=", tenant).execute();
  return [...versions.map(({ digest }) => digest), ...checkpoints.map(({ core }) => core)];
}

function checkId(id: string): void {
  if (TENANT_ID.test(id)) return;
  throw new FieldError(
    "id",
    `Cannot use tenant id ${JSON.stringify(id.slice(0, 80))}: it has 1 to 64 letters, digits, ` +
      "'.', '-' and '_', and begins with none of '.' and '-'",
  );
}

function toRecord({ id, createdAt, limits }: TenantRow): TenantRecord {
  // limits that later versions know have their defaults
  return { id, createdAt, limits: { ...NO_LIMITS, ...JSON.parse(limits) as TenantLimits } };
}

/**
 * Adds to what a tenant stores, and keeps its other writers waiting until the transaction ends.
 * @throws {GoneError} where there is no such tenant; {QuotaError} where it would store too much
 */
export async function charge(trx: Trx, tenant: string, bytes: number): Promise<void> {
  const row = await trx.updateTable("tenants")
    .set({ storedBytes: sql`stored_bytes + ${sql.lit(bytes)}` })
    .where("id", "=", tenant)
    .returning(["storedBytes", "limits"])
    .executeTakeFirst();
  if (row === undefined) throw noTenant(tenant);
  checkQuota(tenant, row, bytes);
}

/** @throws {QuotaError} where `storedBytes`, with `asked` in it, is above the limit */
export function checkQuota(
  tenant: string,
  row: { readonly storedBytes: number; readonly limits: string },
  asked: number,
): void {
  const limit = (JSON.parse(row.limits) as TenantLimits).storedBytes;
  if (asked <= 0 || limit === null || row.storedBytes <= limit) return;
  throw new QuotaError(tenant, { limit, used: row.storedBytes - asked, asked });
}
