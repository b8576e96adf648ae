/**
 * SQLite's thread: statements run here, so that neither a statement nor a disk holds up the event
 * loop. One connection writes; another reads what is committed, and never waits for the writer.
 *
 * Traps: `exec` of node:sqlite tells no error code, so every statement is prepared. And a process
 * that opens the database's file by other means and closes it again loses SQLite's locks on it.
 */
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { Moved, serve } from "../../../src/util/worker_serve.ts";
import { BAD_CHARACTER } from "./sql_error.ts";

export interface Statement {
  /** "transaction": by the writer, and only while its transaction is open. */
  readonly by: "reader" | "writer" | "transaction";
  readonly sql: string;
  readonly parameters: readonly unknown[];
}

export interface StatementResult {
  readonly rows: Record<string, unknown>[];
  /** Rows written by a statement that returns none. */
  readonly changes: number;
  /** What `pg_notify` was called with, and is committed now. */
  readonly notices: readonly Notice[];
}

export interface Notice {
  readonly channel: string;
  readonly payload: string;
}

type Rows = Pick<StatementResult, "rows" | "changes">;

/** "lemb", in the file's header. */
const APPLICATION_ID = 0x6c656d62;
/** Milliseconds that another program may hold the file. */
const BUSY_MS = 5000;
const SETTINGS = [
  // contents are long
  "page_size = 8192",
  "journal_mode = WAL",
  // what is committed is on the disk
  "synchronous = FULL",
  "foreign_keys = ON",
  // bytes of the log that stay on the disk after a long transaction
  `journal_size_limit = ${64 * 2 ** 20}`,
  `application_id = ${APPLICATION_ID}`,
];

class Connections {
  readonly #writer: DatabaseSync;
  readonly #reader: DatabaseSync;
  /** Notices of the transaction that is open. */
  #notices: Notice[] = [];

  constructor(path: string) {
    this.#writer = new DatabaseSync(path);
    run(this.#writer, `PRAGMA busy_timeout = ${BUSY_MS}`);
    refuseOthers(this.#writer);
    for (const setting of SETTINGS) run(this.#writer, `PRAGMA ${setting}`);
    // PostgreSQL's name and promise: told when it is committed
    this.#writer.function("pg_notify", (channel, payload) => {
      this.#notices.push({ channel: String(channel), payload: String(payload) });
      return null;
    });
    this.#reader = new DatabaseSync(path, { readOnly: true });
  }

  run({ by, sql, parameters }: Statement): StatementResult {
    if (by === "reader") return { ...run(this.#reader, sql, parameters), notices: [] };
    if (by === "transaction" && !this.#writer.isTransaction) {
      throw new Error("the transaction has failed before");
    }
    try {
      return { ...run(this.#writer, sql, parameters), notices: this.#takeNotices() };
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

  #takeNotices(): readonly Notice[] {
    return this.#writer.isTransaction ? [] : this.#notices.splice(0);
  }

  close(): void {
    this.#reader.close();
    this.#writer.close();
  }
}

/** @throws {TypeError} for a database of another program, which stays as it is */
function refuseOthers(database: DatabaseSync): void {
  const read = (name: string) => run(database, `PRAGMA ${name}`).rows[0]?.[name];
  if (read("schema_version") === 0 || read("application_id") === APPLICATION_ID) return;
  throw new TypeError("it is a database of another program");
}

function run(database: DatabaseSync, sql: string, parameters: readonly unknown[] = []): Rows {
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
  throw Object.assign(new TypeError("a text has a NUL"), { code: BAD_CHARACTER });
}

/** Bytes that were read change threads without a copy. */
function buffersOf({ rows }: Rows): ArrayBuffer[] {
  return rows.flatMap((row) => Object.values(row)).flatMap((value) =>
    value instanceof Uint8Array && value.buffer instanceof ArrayBuffer ? [value.buffer] : []
  );
}

function makeWork() {
  let connections: Connections | undefined;
  const opened = () => {
    if (connections === undefined) throw new Error("internal: no database is open");
    return connections;
  };
  return {
    /** Opens a database in a file. */
    open(path: string): void {
      connections = new Connections(path);
    },
    run(statement: Statement): Moved<StatementResult> {
      const result = opened().run(statement);
      return new Moved(result, buffersOf(result));
    },
    /** Ends the transaction, where SQLite has not done so itself. */
    rollback(): void {
      opened().rollback();
    },
    close(): void {
      opened().close();
    },
  };
}

export type SqliteWork = ReturnType<typeof makeWork>;

serve(makeWork());
