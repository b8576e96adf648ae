/**
 * A PostgreSQL server as a `Database`. It owns the pool, and a connection that listens and comes
 * back when it was lost; it knows no table.
 */
import { type Kysely, PostgresDialect } from "kysely";
// @ts-types="@types/pg"
import pg from "pg";
import { withoutSecret } from "../../../src/checkpoint/fetch/secrets.ts";
import type { Database, SqlResult } from "./database.ts";
import { kyselyOver } from "./kysely_over.ts";
import { PostgresListener } from "./postgres_listener.ts";
import type { Tables } from "./tables.ts";

const CONNECTIONS = 8;
const CONNECT_MS = 5000;
const INT8 = 20;

export class PostgresDatabase implements Database {
  readonly kind = "postgres";
  /** Connections come back. */
  readonly lost: Promise<never> = new Promise(() => {});
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

  async executeSql(text: string, values?: readonly unknown[]): Promise<SqlResult> {
    if (values !== undefined && values.length > 0) {
      return { rows: (await this.#pool.query(text, [...values])).rows };
    }
    const client = await this.#pool.connect();
    try {
      // without values several statements are one result each
      const result: pg.QueryResult | pg.QueryResult[] = await client.query(text);
      client.release();
      return { rows: Array.isArray(result) ? result.flatMap(({ rows }) => rows) : result.rows };
    } catch (error) {
      // statements that fail may leave a transaction open: nobody else gets this connection
      client.release(true);
      throw error;
    }
  }

  listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable> {
    return this.#listener.listen(channel, listener);
  }

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
    types: { getTypeParser },
  };
}

/** Counts and times fit a number; pg would give them as text. */
const getTypeParser: typeof pg.types.getTypeParser = (id, format) =>
  id === INT8 ? Number : pg.types.getTypeParser(id, format);

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}
