/** Tenants in SQL. It owns their rows, and that all they have goes with them. */
import { ConflictError, FieldError } from "../../src/util/errors.ts";
import { NO_LIMITS, TENANT_ID, type TenantLimits } from "./tenant_store.ts";
import type { TenantRecord, TenantStore } from "./tenant_store.ts";
import type { Page, PageQuery } from "./paging.ts";
import { removeContents } from "./contents.ts";
import { collectCores } from "./core_rows.ts";
import { tell } from "./sql_changes.ts";
import {
  beyond,
  type Db,
  limited,
  noTenant,
  notListed,
  toPage,
  transact,
  type Trx,
} from "./sql_helpers.ts";

interface TenantRow {
  readonly id: string;
  readonly createdAt: number;
  readonly limits: string;
}

const COLUMNS = ["id", "createdAt", "limits"] as const;

export class SqlTenantStore implements TenantStore {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  async create(
    { id, limits }: { readonly id: string; readonly limits?: Partial<TenantLimits> },
  ): Promise<TenantRecord> {
    const made = await this.#insert(id, { ...NO_LIMITS, ...limits });
    if (made !== undefined) return made;
    throw new ConflictError("id", `Cannot create tenant '${id}': there is one already`);
  }

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

  async list(query: PageQuery): Promise<Page<TenantRecord>> {
    const { after, order } = query;
    const from = after === undefined ? undefined : await this.#seqOf(after);
    let rows = this.#db.selectFrom("tenants").select(COLUMNS).orderBy("seq", order);
    if (from !== undefined) rows = rows.where("seq", beyond(order), from);
    return toPage(await limited(rows, query).execute(), query, toRecord);
  }

  async update({ id, limits }: Pick<TenantRecord, "id" | "limits">): Promise<void> {
    await transact(this.#db, async (trx) => {
      const row = await trx.updateTable("tenants").set({ limits: JSON.stringify(limits) })
        .where("id", "=", id).returning("id").executeTakeFirst();
      if (row === undefined) throw noTenant(id);
      await tell(trx, "tenant", { tenant: id, id });
    });
  }

  remove(id: string): Promise<boolean> {
    return transact(this.#db, async (trx) => {
      const row = await trx.selectFrom("tenants").select("id").where("id", "=", id).forUpdate()
        .executeTakeFirst();
      if (row === undefined) return false;
      const [contents, digests] = [await contentsOf(trx, id), await digestsOf(trx, id)];
      await trx.deleteFrom("tenants").where("id", "=", id).execute();
      await removeContents(trx, contents);
      await collectCores(trx, digests);
      for (const kind of ["tenant", "key", "core", "job"] as const) {
        await tell(trx, kind, { tenant: id, ...(kind === "tenant" && { id }) });
      }
      return true;
    });
  }

  async storedBytes(id: string): Promise<number> {
    return (await this.storedBytesOf([id])).get(id) ?? 0;
  }

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
  return [...files, ...progress].map(({ content }) => content);
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
