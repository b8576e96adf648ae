/** A database file on a thread of its own: orders go there by number, and answers come back. */
import { SqliteError } from "./sql_error.ts";
import type { Notice, SqliteOrder, SqliteReply, SqliteRows } from "./sqlite_worker.ts";

export class SqliteThread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<SqliteRows>>();
  readonly #onNotice: (notice: Notice) => void;
  #next = 1;
  #end: Error | undefined;

  private constructor(onNotice: (notice: Notice) => void) {
    this.#onNotice = onNotice;
    this.#worker = new Worker(new URL("./sqlite_worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<SqliteReply>) => this.#take(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#stop(new Error(`the database's thread ended: ${event.message}`));
    };
  }

  /** @throws {SqliteError} where the file cannot be opened, or is no database */
  static async open(path: string, onNotice: (notice: Notice) => void): Promise<SqliteThread> {
    const thread = new SqliteThread(onNotice);
    try {
      await thread.order({ type: "open", path });
      return thread;
    } catch (error) {
      thread.#worker.terminate();
      throw error;
    }
  }

  /** Why it takes no orders any more. */
  get end(): Error | undefined {
    return this.#end;
  }

  /** @throws {SqliteError} what SQLite says; {Error} where the thread has ended, or ends meanwhile */
  order(order: SqliteOrder): Promise<SqliteRows> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const id = this.#next++;
    const waiting = Promise.withResolvers<SqliteRows>();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage({ id, order });
    return waiting.promise;
  }

  async close(): Promise<void> {
    try {
      if (this.#end === undefined) await this.order({ type: "close" });
    } finally {
      this.#stop(new Error("the database was closed"));
    }
  }

  #take(reply: SqliteReply): void {
    if (reply.type === "notified") return reply.notices.forEach(this.#onNotice);
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.type === "done") waiting?.resolve(reply.result);
    else waiting?.reject(new SqliteError(reply.error));
  }

  #stop(error: Error): void {
    this.#end ??= error;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
