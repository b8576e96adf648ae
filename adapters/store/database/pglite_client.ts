/**
 * PGlite on its thread, as kysely wants it: statements and transactions that do not mix. It owns the
 * thread's life and the numbering of orders; what is asked it does not know.
 */
import type { PGlite as KyselyPglite, PGliteQueryResults, PGliteTransaction } from "kysely";
import type { PgliteOrder, PgliteReply, StatementResult } from "./pglite_protocol.ts";
import { SqlError } from "./sql_error.ts";

type Waiting = PromiseWithResolvers<readonly StatementResult[]>;

export class PgliteClient implements KyselyPglite {
  readonly #worker: Worker;
  readonly #onWarning: (error: Error) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Map<string, Set<(payload: string) => void>>();
  #next = 1;
  /** Settled when the transactions and lone statements so far are through. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #lost = Promise.withResolvers<Error>();
  #failure: Error | undefined;
  closed = false;
  readonly ready = true;
  readonly waitReady: Promise<void> = Promise.resolve();

  private constructor(onWarning: (error: Error) => void) {
    this.#onWarning = onWarning;
    this.#worker = new Worker(new URL("./pglite_worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<PgliteReply>) => this.#take(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`Cannot reach the database: its thread ended: ${event.message}`);
      this.#fail(error);
      this.#lost.resolve(error);
    };
  }

  /**
   * Opens a directory's database, or makes one in it; `onWarning` hears of upkeep that failed.
   * @throws {Error} where it cannot be opened
   */
  static async open(
    directory: string,
    onWarning: (error: Error) => void,
  ): Promise<PgliteClient> {
    const client = new PgliteClient(onWarning);
    try {
      await client.#order({ type: "open", directory });
      return client;
    } catch (error) {
      client.#worker.terminate();
      throw error;
    }
  }

  /** Resolves where the thread has ended by itself. */
  get lost(): Promise<Error> {
    return this.#lost.promise;
  }

  query<T>(text: string, values: readonly unknown[] = []): Promise<PGliteQueryResults<T>> {
    return this.#inTurn(() => this.#query<T>(text, values));
  }

  /** Several statements without parameters; a transaction that they leave broken is rolled back. */
  exec(text: string): Promise<readonly StatementResult[]> {
    return this.#inTurn(async () => {
      try {
        return await this.#order({ type: "exec", text });
      } catch (error) {
        await this.#order({ type: "exec", text: "ROLLBACK" });
        throw error;
      }
    });
  }

  /** Keeps others out from BEGIN to COMMIT. */
  transaction<T>(callback: (transaction: PGliteTransaction) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      await this.#order({ type: "exec", text: "BEGIN" });
      try {
        const query: PGliteTransaction["query"] = (text, values) => this.#query(text, values ?? []);
        const result = await callback({ query, rollback: refuseRollback });
        await this.#order({ type: "exec", text: "COMMIT" });
        return result;
      } catch (error) {
        await this.#order({ type: "exec", text: "ROLLBACK" });
        throw error;
      }
    });
  }

  /** Listens, from the first listener of a channel to the last one's disposal. */
  async listen(channel: string, listener: (payload: string) => void): Promise<AsyncDisposable> {
    const listeners = this.#listeners.get(channel) ?? new Set();
    this.#listeners.set(channel, listeners.add(listener));
    if (listeners.size === 1) await this.#inTurn(() => this.#order({ type: "listen", channel }));
    return {
      [Symbol.asyncDispose]: async () => {
        const ended = this.closed || this.#failure !== undefined;
        if (!listeners.delete(listener) || listeners.size > 0 || ended) return;
        await this.#inTurn(() => this.#order({ type: "unlisten", channel }));
      },
    };
  }

  /** Turns off what moves the log's beginning, or on again. */
  async upkeep(mode: "on" | "off"): Promise<void> {
    await this.#order({ type: "upkeep", mode });
  }

  /** Ends when statements under way are through. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.#inTurn(async () => {
      try {
        if (this.#failure === undefined) await this.#order({ type: "close" });
      } finally {
        this.#fail(new Error("Cannot reach the database: it was closed"));
        this.#worker.terminate();
      }
    });
  }

  async #query<T>(text: string, values: readonly unknown[]): Promise<PGliteQueryResults<T>> {
    const [result] = await this.#order({ type: "query", text, values });
    // the rows' type is the asker's claim, as everywhere in SQL
    const rows = (result?.rows ?? []) as T[];
    return { rows, affectedRows: result?.affectedRows ?? 0, fields: [] };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  #order(order: PgliteOrder): Promise<readonly StatementResult[]> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const id = this.#next++;
    const waiting: Waiting = Promise.withResolvers();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage({ id, order });
    return waiting.promise;
  }

  #take(reply: PgliteReply): void {
    if (reply.type === "notified") {
      for (const listener of this.#listeners.get(reply.channel) ?? []) listener(reply.payload);
      return;
    }
    if (reply.type === "upkeep failed") {
      const { message } = reply.error;
      this.#onWarning(
        new Error(`A checkpoint of the database failed, no data is lost: ${message}`),
      );
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.type === "done") waiting?.resolve(reply.results);
    else waiting?.reject(new SqlError(reply.error));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** kysely rolls back by throwing. */
function refuseRollback(): Promise<never> {
  return Promise.reject(new Error("internal: a transaction is rolled back by throwing"));
}
