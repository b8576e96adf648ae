/** kysely over either database, and transactions that are tried again. */
import { CamelCasePlugin, type Dialect, Kysely, type Transaction } from "kysely";
import { failureOf, type SqlFailure } from "./sql_error.ts";
import type { Tables } from "./tables.ts";

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

/** Values of one `in (…)`: a statement has only so many parameters. */
export const LIST = 10_000;

/** snake_case in the database, camelCase here. */
export function kyselyOver(dialect: Dialect): Kysely<Tables> {
  return new Kysely<Tables>({ dialect, plugins: [new CamelCasePlugin()] });
}
