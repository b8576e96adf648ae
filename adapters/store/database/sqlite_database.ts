/** SQLite in a file as a `Database`: this process's alone, whose caller holds a lock for it. */
import type { Kysely } from "kysely";
import { EventEmitter } from "node:events";
import { kyselyOver } from "./kysely.ts";
import { SqliteDialect, SqliteDriver } from "./sqlite_dialect.ts";
import { SqliteThread } from "./sqlite_thread.ts";
import type { Tables } from "./tables.ts";

/** No channel is called so. */
const REOPENED = Symbol("reopened");

export class SqliteDatabase implements AsyncDisposable {
  readonly kind = "sqlite";
  readonly db: Kysely<Tables>;
  readonly #path: string;
  readonly #events: EventEmitter;

  private constructor(path: string, driver: SqliteDriver, events: EventEmitter) {
    this.#path = path;
    this.#events = events;
    this.db = kyselyOver(new SqliteDialect(driver));
  }

  /**
   * Opens a database file, made where it is missing; `onError` hears that its thread was lost.
   * @throws {Error} where it cannot be opened, or is no database
   */
  static async open(path: string, onError: (error: Error) => void): Promise<SqliteDatabase> {
    const events = new EventEmitter().setMaxListeners(0);
    const openThread = () =>
      SqliteThread.open(path, ({ channel, payload }) => void events.emit(channel, payload));
    const driver = await SqliteDriver.start(openThread, (error) => {
      onError(error);
      events.emit(REOPENED);
    });
    return new SqliteDatabase(path, driver, events);
  }

  /** Calls back for what `pg_notify` was called with and is committed; dispose to stop. */
  listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable> {
    this.#events.on(channel, listener);
    return Promise.resolve({
      [Symbol.asyncDispose]: () => {
        this.#events.off(channel, listener);
        return Promise.resolve();
      },
    });
  }

  /** Called after the thread was lost and is there again: a notice may have gone with it. */
  onReconnect(listener: () => void): Disposable {
    this.#events.on(REOPENED, listener);
    return { [Symbol.dispose]: () => void this.#events.off(REOPENED, listener) };
  }

  /** Copies the database as it is at one moment to a file that is empty or not there. */
  async copyTo(path: string): Promise<void> {
    // on a thread of its own: the others go on meanwhile
    const thread = await SqliteThread.open(this.#path, () => {});
    try {
      await thread.run("VACUUM INTO ?", { by: "reader", parameters: [path] });
    } finally {
      await thread.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.db.destroy();
  }
}
