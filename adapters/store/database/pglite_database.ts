/** PGlite in a directory as a `Database`. It owns the joining of kysely and the client. */
import { type Kysely, PGliteDialect } from "kysely";
import type { Database, SqlResult } from "./database.ts";
import { kyselyOver } from "./kysely_over.ts";
import { PgliteClient } from "./pglite_client.ts";
import type { Tables } from "./tables.ts";

export class PgliteDatabase implements Database {
  readonly kind = "pglite";
  readonly db: Kysely<Tables>;
  readonly #client: PgliteClient;

  private constructor(client: PgliteClient) {
    this.#client = client;
    this.db = kyselyOver(new PGliteDialect({ pglite: client }));
  }

  /** The directory is this process's own: the caller holds its lock. `onError` hears of upkeep. */
  static async open(
    directory: string,
    onError: (error: Error) => void,
  ): Promise<PgliteDatabase> {
    return new PgliteDatabase(await PgliteClient.open(directory, onError));
  }

  get lost(): Promise<Error> {
    return this.#client.lost;
  }

  async executeSql(text: string, values?: readonly unknown[]): Promise<SqlResult> {
    if (values !== undefined && values.length > 0) return await this.#client.query(text, values);
    const results = await this.#client.exec(text);
    return { rows: results.flatMap(({ rows }) => rows) };
  }

  listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable> {
    return this.#client.listen(channel, listener);
  }

  /** The connection is this process's own and is not lost. */
  onReconnect(): Disposable {
    return { [Symbol.dispose]: () => {} };
  }

  upkeep(mode: "on" | "off"): Promise<void> {
    return this.#client.upkeep(mode);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close();
  }
}
