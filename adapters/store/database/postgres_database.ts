/**
 * A PostgreSQL server as a `Database`: a pool of connections, and one that listens, which comes back
 * when it was lost.
 */
import { type Kysely, PostgresDialect } from "kysely";
// @ts-types="@types/pg"
import pg from "pg";
import { withoutSecret } from "../../../src/checkpoint/fetch/secrets.ts";
import { kyselyOver } from "./kysely.ts";
import { PostgresListener } from "./postgres_listener.ts";
import type { Tables } from "./tables.ts";

const CONNECTIONS = 8;
const CONNECT_MS = 5000;
const INT8 = 20;

const JSONB = 3802;

/** What a statement without a query builder gives. */
export interface SqlResult {
  // deno-lint-ignore no-explicit-any -- columns are the statement's; pg types them so, too
  readonly rows: any[];
}

export class PostgresDatabase implements AsyncDisposable {
  readonly kind = "postgres";
  /** The typed way in. */
  readonly db: Kysely<Tables>;
  readonly #pool: pg.Pool;
  readonly #listener: PostgresListener;

  private constructor(config: pg.ClientConfig, onError: (error: Error) => void) {
    this.#pool = new pg.Pool({ ...config, max: CONNECTIONS });
    // a connection that breaks while idle is replaced by the pool
    this.#pool.on("error", onError);
    this.#listener = new PostgresListener(config, onError);
    this.db = kyselyOver(new PostgresDialect({ pool: this.#pool }));
  }

  /**
   * Connects, so that a wrong URL is told at once.
   * @throws {TypeError} for what is no URL of a PostgreSQL database; {Error} where none answers
   */
  static async open(url: string, onError: (error: Error) => void): Promise<PostgresDatabase> {
    const database = new PostgresDatabase(configOf(url), onError);
    try {
      await database.executeSql("SELECT 1");
      return database;
    } catch (cause) {
      await database[Symbol.asyncDispose]();
      throw new Error(
        `Cannot use the database ${withoutSecret(url)}: ${reasonOf(cause)}. Check DATABASE_URL, ` +
          "and that the server runs and lets this user in.",
        { cause },
      );
    }
  }

  /**
   * Runs SQL with `$1` parameters; without values it may be several statements, whose rows come one
   * after the other. It is what pg-boss asks of its `db` option.
   */
  async executeSql(text: string, values: readonly unknown[] = []): Promise<SqlResult> {
    const query = { text, types: { getTypeParser: withJson } };
    if (values.length > 0) {
      return { rows: (await this.#pool.query({ ...query, values: [...values] })).rows };
    }
    const client = await this.#pool.connect();
    try {
      // without values several statements are one result each
      const result: pg.QueryResult | pg.QueryResult[] = await client.query(query);
      client.release();
      return { rows: Array.isArray(result) ? result.flatMap(({ rows }) => rows) : result.rows };
    } catch (error) {
      // statements that fail may leave a transaction open: nobody else gets this connection
      client.release(true);
      throw error;
    }
  }

  /** Calls back for each NOTIFY on a channel, from whatever process; dispose to stop. */
  listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable> {
    return this.#listener.listen(channel, listener);
  }

  /** Called after the connection that listens was lost and is there again. */
  onReconnect(listener: () => void): Disposable {
    return this.#listener.onReconnect(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
    await this.#pool.end();
  }
}

function configOf(url: string): pg.ClientConfig {
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new TypeError(
      `Cannot use DATABASE_URL ${JSON.stringify(withoutSecret(url))}: it is ` +
        "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
    );
  }
  const { pathname, hash } = URL.parse(url) ?? { pathname: "@", hash: "" };
  if (`${pathname}${hash}`.includes("@")) {
    throw new TypeError(
      `Cannot use DATABASE_URL ${JSON.stringify(withoutSecret(url))}: where the user or the ` +
        "password has '@', ':', '/', '?', '#' or '%', write %40, %3A, %2F, %3F, %23 or %25",
    );
  }
  return {
    connectionString: url,
    application_name: "lembas",
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    types: { getTypeParser: withoutJson },
  };
}

/** Counts and times fit a number; pg would give them as text. */
const withJson: typeof pg.types.getTypeParser = (id, format) =>
  id === INT8 ? Number : pg.types.getTypeParser(id, format);

/** JSON is read as text, as SQLite gives it. */
const withoutJson: typeof pg.types.getTypeParser = (id, format) =>
  id === JSONB ? String : withJson(id, format);

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
