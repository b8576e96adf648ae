/**
 * kysely over SQLite's thread. There is one writer, so transactions and lone statements that write
 * take turns; lone SELECTs go to the reader at once. A thread that ends is started anew by the next
 * statement: what was under way fails, and a transaction with it.
 */
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type Kysely,
  type QueryResult,
  type SelectModifierNode,
  SelectQueryNode,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import type { SqliteThread } from "./sqlite_thread.ts";
import type { StatementResult } from "./sqlite_worker.ts";

export class SqliteDialect implements Dialect {
  readonly #driver: SqliteDriver;

  constructor(driver: SqliteDriver) {
    this.#driver = driver;
  }

  createDriver(): Driver {
    return this.#driver;
  }

  createAdapter(): SqliteAdapter {
    return new OwnAdapter();
  }

  createQueryCompiler(): SqliteQueryCompiler {
    return new UnlockedCompiler();
  }

  createIntrospector(db: Kysely<unknown>): SqliteIntrospector {
    return new SqliteIntrospector(db);
  }
}

/** What kysely thinks SQLite cannot do. */
class OwnAdapter extends SqliteAdapter {
  /** A reader beside the writer. */
  override get supportsMultipleConnections(): boolean {
    return true;
  }

  /** Migrations are whole or not at all. */
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** Leaves FOR UPDATE out: a transaction that writes is alone. */
class UnlockedCompiler extends SqliteQueryCompiler {
  protected override visitSelectModifier(node: SelectModifierNode): void {
    if (node.modifier !== "ForUpdate") super.visitSelectModifier(node);
  }
}

export class SqliteDriver implements Driver {
  readonly #open: () => Promise<SqliteThread>;
  readonly #onReopened: (error: Error) => void;
  #thread: Promise<SqliteThread>;
  /** Resolves when the turns so far are over. */
  #turns: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(
    thread: SqliteThread,
    open: () => Promise<SqliteThread>,
    onReopened: (error: Error) => void,
  ) {
    this.#thread = Promise.resolve(thread);
    this.#open = open;
    this.#onReopened = onReopened;
  }

  /** `onReopened` hears why a thread ended, when there is another one. */
  static async start(
    open: () => Promise<SqliteThread>,
    onReopened: (error: Error) => void,
  ): Promise<SqliteDriver> {
    return new SqliteDriver(await open(), open, onReopened);
  }

  /** The thread that works. @throws {Error} where the database cannot be opened again */
  thread(): Promise<SqliteThread> {
    return this.#thread = this.#thread.then(
      (thread) => thread.end === undefined ? thread : this.#reopen(thread.end),
      (error) => this.#reopen(error),
    );
  }

  async #reopen(error: Error): Promise<SqliteThread> {
    // whoever has closed it has given its lock away
    if (this.#closed) throw error;
    const thread = await this.#open();
    this.#onReopened(error);
    return thread;
  }

  /** Waits for the writer; what is returned hands it on. */
  async takeTurn(): Promise<() => void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#turns;
    this.#turns = promise;
    await before;
    return resolve;
  }

  async init(): Promise<void> {}

  acquireConnection(): Promise<SqliteConnection> {
    return Promise.resolve(new SqliteConnection(this));
  }

  beginTransaction(connection: SqliteConnection): Promise<void> {
    return connection.begin();
  }

  commitTransaction(connection: SqliteConnection): Promise<void> {
    return connection.commit();
  }

  rollbackTransaction(connection: SqliteConnection): Promise<void> {
    return connection.rollback();
  }

  async releaseConnection(): Promise<void> {}

  /** Ends when what is under way is through. */
  async destroy(): Promise<void> {
    const done = await this.takeTurn();
    this.#closed = true;
    await this.#thread.then((thread) => thread.close(), () => {}).finally(done);
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #driver: SqliteDriver;
  #transaction: { readonly thread: SqliteThread; readonly done: () => void } | undefined;

  constructor(driver: SqliteDriver) {
    this.#driver = driver;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const { rows, changes } = await this.#run(query);
    // the rows' type is the asker's claim, as everywhere in SQL
    return { rows: rows as R[], numAffectedRows: BigInt(changes) };
  }

  // deno-lint-ignore require-yield -- kysely's interface
  async *streamQuery(): AsyncGenerator<never> {
    await Promise.reject(new Error("internal: rows are read whole"));
  }

  async begin(): Promise<void> {
    const done = await this.#driver.takeTurn();
    try {
      const thread = await this.#driver.thread();
      await thread.run("BEGIN IMMEDIATE", { by: "writer" });
      this.#transaction = { thread, done };
    } catch (error) {
      done();
      throw error;
    }
  }

  async commit(): Promise<void> {
    await this.#transaction?.thread.run("COMMIT", { by: "transaction" });
    this.#end();
  }

  async rollback(): Promise<void> {
    try {
      await this.#transaction?.thread.rollback();
    } finally {
      this.#end();
    }
  }

  #end(): void {
    this.#transaction?.done();
    this.#transaction = undefined;
  }

  async #run({ sql, parameters, query }: CompiledQuery): Promise<StatementResult> {
    if (this.#transaction !== undefined) {
      return await this.#transaction.thread.run(sql, { by: "transaction", parameters });
    }
    if (SelectQueryNode.is(query)) {
      return await (await this.#driver.thread()).run(sql, { by: "reader", parameters });
    }
    const done = await this.#driver.takeTurn();
    try {
      return await (await this.#driver.thread()).run(sql, { by: "writer", parameters });
    } finally {
      done();
    }
  }
}
