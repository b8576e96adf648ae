/** Small tools of the SQL stores: pages by sequence, transactions that are tried again, quotas. */
import type { Kysely, Transaction } from "kysely";
import { sql } from "kysely";
import { FieldRangeError } from "../../src/util/errors.ts";
import { failureOf, type SqlFailure } from "./database/sql_error.ts";
import type { Tables } from "./database/tables.ts";
import { GoneError } from "./gone_error.ts";
import type { Page, PageQuery } from "./paging.ts";
import { QuotaError } from "./quota_error.ts";
import type { TenantLimits } from "./tenant_store.ts";

export type Db = Kysely<Tables>;
export type Trx = Transaction<Tables>;

/** What two writers at once may run into: each other, and each other's keys. */
const TRANSIENT: ReadonlySet<SqlFailure | undefined> = new Set([
  "conflict",
  "unique",
  "foreign key",
]);
const ATTEMPTS = 5;

/** A transaction that is tried again where another writer was in its way. */
export async function transact<T>(db: Db, work: (trx: Trx) => Promise<T>): Promise<T> {
  for (let attempt = 1;; attempt++) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      if (attempt === ATTEMPTS || !TRANSIENT.has(failureOf(error))) throw error;
    }
  }
}

/** Where a page begins, in a list by `seq`. */
export function beyond(order: PageQuery["order"]): ">" | "<" {
  return order === "asc" ? ">" : "<";
}

/** Asks for one row more than the page has, to know whether there are more. */
export function limited<Q extends { limit(rows: number): Q }>(rows: Q, { limit }: PageQuery): Q {
  return Number.isFinite(limit) ? rows.limit(limit + 1) : rows;
}

export function toPage<R, T>(
  rows: readonly R[],
  { limit }: PageQuery,
  toItem: (row: R) => T,
): Page<T> {
  return { items: rows.slice(0, limit).map(toItem), hasMore: rows.length > limit };
}

/** @throws {FieldRangeError} that the item a page begins behind is not listed */
export function notListed(after: string): never {
  throw new FieldRangeError(
    "after",
    `Cannot list what comes after '${after.slice(0, 80)}': it is not listed`,
  );
}

export function noTenant(tenant: string): GoneError {
  return new GoneError(`Cannot find tenant '${tenant.slice(0, 80)}': there is none`);
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

/** Values of one `in (…)`: a statement has only so many parameters. */
export const LIST = 10_000;
