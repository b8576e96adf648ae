/** A database file on a thread of its own. A thread that has ended stays so: another one is opened. */
import { WorkerThread } from "../../../src/util/worker_thread.ts";
import type { Notice, SqliteWork, Statement, StatementResult } from "./sqlite_worker.ts";

export class SqliteThread {
  readonly #thread: WorkerThread<SqliteWork>;
  readonly #onNotice: (notice: Notice) => void;
  #end: Error | undefined;

  private constructor(onNotice: (notice: Notice) => void) {
    this.#onNotice = onNotice;
    this.#thread = new WorkerThread<SqliteWork>({
      module: new URL("./sqlite_worker.ts", import.meta.url),
      failure: "Cannot use the database",
      onFall: (error) => this.#end ??= error,
    });
  }

  /** @throws {Error} where the file cannot be opened, or is no database of lembas */
  static async open(path: string, onNotice: (notice: Notice) => void): Promise<SqliteThread> {
    const opened = new SqliteThread(onNotice);
    try {
      await opened.#thread.call("open", path);
      return opened;
    } catch (error) {
      opened.#thread[Symbol.dispose]();
      throw error;
    }
  }

  /** Why it takes no statements any more. */
  get end(): Error | undefined {
    return this.#end;
  }

  /** @throws {Error} what SQLite says, or that the thread has ended, or ends meanwhile */
  async run(
    sql: string,
    { by, parameters = [] }: Pick<Statement, "by"> & Partial<Statement>,
  ): Promise<StatementResult> {
    if (this.#end !== undefined) throw this.#end;
    const result = await this.#thread.call("run", { by, sql, parameters });
    result.notices.forEach(this.#onNotice);
    return result;
  }

  async rollback(): Promise<void> {
    // a thread that ended has taken the transaction with it
    if (this.#end === undefined) await this.#thread.call("rollback", undefined);
  }

  async close(): Promise<void> {
    const ended = this.#end !== undefined;
    this.#end ??= new Error("Cannot use the database: it was closed");
    try {
      if (!ended) await this.#thread.call("close", undefined);
    } finally {
      this.#thread[Symbol.dispose]();
    }
  }
}
