/**
 * The database port: one SQL database that many tables share, PGlite in a data directory or a
 * PostgreSQL server. It owns what any user of it may rely on; it knows no table.
 */
import type { Kysely } from "kysely";
import type { Tables } from "./tables.ts";

/** What a statement without a query builder gives. */
export interface SqlResult {
  // deno-lint-ignore no-explicit-any -- columns are the statement's; pg types them so, too
  readonly rows: any[];
}

export interface Database extends AsyncDisposable {
  readonly kind: "pglite" | "postgres";
  /** Resolves where it is gone for this process and nothing brings it back; else never settles. */
  readonly lost: Promise<Error>;
  /** The typed way in. */
  readonly db: Kysely<Tables>;
  /**
   * Runs SQL with `$1` parameters, on any connection; without values it may be several statements,
   * whose rows come one after the other.
   * It is the one method that pg-boss asks of its `db` option.
   */
  executeSql(text: string, values?: readonly unknown[]): Promise<SqlResult>;
  /** Calls back for each NOTIFY on a channel, from whatever process; dispose to stop. */
  listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable>;
  /** Called after the connection that listens was lost and is there again. */
  onReconnect(listener: () => void): Disposable;
}
