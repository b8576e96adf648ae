/**
 * SQLite's thread: statements run here, so that neither a statement nor a disk holds up the event
 * loop. One connection writes; another reads what is committed, and never waits for the writer.
 *
 * Traps: `exec` of node:sqlite tells no error code, so every statement is prepared. And a process
 * that opens the database's file by other means and closes it again loses SQLite's locks on it.
 */
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import type { SqliteErrorFields } from "./sql_error.ts";

export type SqliteOrder =
  /** Opens a database in a file. */
  | { readonly type: "open"; readonly path: string }
  | {
    readonly type: "run";
    /** "transaction": by the writer, and only while its transaction is open. */
    readonly by: "reader" | "writer" | "transaction";
    readonly sql: string;
    readonly parameters: readonly unknown[];
  }
  /** Ends the transaction, where SQLite has not done so itself. */
  | { readonly type: "rollback" }
  | { readonly type: "close" };

export interface NumberedOrder {
  readonly id: number;
  readonly order: SqliteOrder;
}

export interface SqliteRows {
  readonly rows: Record<string, unknown>[];
  /** Rows written by a statement that returns none. */
  readonly changes: number;
}

export interface Notice {
  readonly channel: string;
  readonly payload: string;
}

export type SqliteReply =
  | { readonly type: "done"; readonly id: number; readonly result: SqliteRows }
  | { readonly type: "failed"; readonly id: number; readonly error: SqliteErrorFields }
  /** What `pg_notify` was called with, once that is committed. */
  | { readonly type: "notified"; readonly notices: readonly Notice[] };

interface WorkerScope {
  onmessage: ((event: MessageEvent<NumberedOrder>) => void) | null;
  postMessage(reply: SqliteReply, transfer?: Transferable[]): void;
}

/** "lemb", in the file's header. */
const APPLICATION_ID = 0x6c656d62;
const SETTINGS = [
  // milliseconds that another program may hold the file
  "busy_timeout = 5000",
  // contents are long
  "page_size = 8192",
  "journal_mode = WAL",
  // what is committed is on the disk
  "synchronous = FULL",
  "foreign_keys = ON",
  // bytes of the log that stay on the disk after a long transaction
  `journal_size_limit = ${64 * 2 ** 20}`,
];
const NOTHING: SqliteRows = { rows: [], changes: 0 };

class Connections {
  readonly #writer: DatabaseSync;
  readonly #reader: DatabaseSync;
  /** Notices of the transaction that is open. */
  #notices: Notice[] = [];

  constructor(path: string) {
    this.#writer = new DatabaseSync(path);
    for (const setting of SETTINGS) run(this.#writer, `PRAGMA ${setting}`);
    markOwn(this.#writer);
    // PostgreSQL's name and promise: told when it is committed
    this.#writer.function("pg_notify", (channel, payload) => {
      this.#notices.push({ channel: String(channel), payload: String(payload) });
      return null;
    });
    this.#reader = new DatabaseSync(path, { readOnly: true });
  }

  run({ by, sql, parameters }: Extract<SqliteOrder, { type: "run" }>): SqliteRows {
    if (by === "transaction" && !this.#writer.isTransaction) {
      throw new Error("the transaction has failed before");
    }
    if (by === "reader") return run(this.#reader, sql, parameters);
    try {
      return run(this.#writer, sql, parameters);
    } catch (error) {
      // some errors end a transaction, too
      if (!this.#writer.isTransaction) this.#notices = [];
      throw error;
    }
  }

  rollback(): void {
    if (this.#writer.isTransaction) run(this.#writer, "ROLLBACK");
    this.#notices = [];
  }

  /** Notices of what is committed now. */
  takeNotices(): readonly Notice[] {
    return this.#writer.isTransaction ? [] : this.#notices.splice(0);
  }

  close(): void {
    this.#reader.close();
    this.#writer.close();
  }
}

/** @throws {Error} for a database of another program */
function markOwn(database: DatabaseSync): void {
  const read = (name: string) => run(database, `PRAGMA ${name}`).rows[0]?.[name];
  if (read("application_id") === APPLICATION_ID) return;
  if (read("schema_version") !== 0) throw new Error("it is a database of another program");
  run(database, `PRAGMA application_id = ${APPLICATION_ID}`);
}

function run(database: DatabaseSync, sql: string, parameters: readonly unknown[] = []): SqliteRows {
  const statement = database.prepare(sql);
  // what SQLite has no type for is refused by node:sqlite
  const values = parameters.map(checkText) as SQLInputValue[];
  if (statement.columns().length === 0) {
    return { rows: [], changes: Number(statement.run(...values).changes) };
  }
  return { rows: statement.all(...values) as Record<string, unknown>[], changes: 0 };
}

/** A text with a NUL would be read back cut off; PostgreSQL refuses it, too. */
function checkText(value: unknown): unknown {
  if (typeof value !== "string" || !value.includes("\0")) return value;
  throw Object.assign(new TypeError("a text has a NUL"), { code: "NUL" });
}

function toFields(error: unknown): SqliteErrorFields {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, errcode, code } = error as Error & { errcode?: number; code?: string };
  return { message, code: errcode ?? code };
}

/** Bytes that were read change threads without a copy. */
function buffersOf({ rows }: SqliteRows): Transferable[] {
  return rows.flatMap((row) => Object.values(row)).flatMap((value) =>
    value instanceof Uint8Array && value.buffer instanceof ArrayBuffer ? [value.buffer] : []
  );
}

function serve(scope: WorkerScope): void {
  let connections: Connections | undefined;

  const obey = (order: SqliteOrder): SqliteRows => {
    if (order.type === "open") connections = new Connections(order.path);
    if (connections === undefined) throw new Error("internal: no database is open");
    if (order.type === "run") return connections.run(order);
    if (order.type === "rollback") connections.rollback();
    if (order.type === "close") connections.close();
    return NOTHING;
  };

  scope.onmessage = ({ data: { id, order } }) => {
    try {
      const result = obey(order);
      const notices = order.type === "run" ? connections?.takeNotices() ?? [] : [];
      if (notices.length > 0) scope.postMessage({ type: "notified", notices });
      scope.postMessage({ type: "done", id, result }, buffersOf(result));
    } catch (error) {
      scope.postMessage({ type: "failed", id, error: toFields(error) });
    }
  };
}

serve(globalThis as unknown as WorkerScope);
