/** What the databases say has failed, in words that are the same for both. */

export type SqlFailure =
  | "unique"
  | "foreign key"
  /** Another transaction was in the way; it may work when tried again. */
  | "conflict"
  /** The database's own pages are broken. */
  | "damaged"
  /** A text with a NUL, or (in JSON, on PostgreSQL) with half a character. */
  | "bad character";

/** SQLSTATEs of PostgreSQL. */
const SQL_STATES: Readonly<Record<string, SqlFailure>> = {
  "23505": "unique",
  "23503": "foreign key",
  "40001": "conflict",
  "40P01": "conflict",
  "22021": "bad character",
  "22P05": "bad character",
};

/** Extended result codes of SQLite. */
const RESULT_CODES: Readonly<Record<string | number, SqlFailure>> = {
  1555: "unique",
  2067: "unique",
  787: "foreign key",
  NUL: "bad character",
};

/** Primary result codes of SQLite: an extended one's last eight bits. */
const CORRUPT = 11;
const NOT_A_DATABASE = 26;

export interface SqliteErrorFields {
  readonly message: string;
  /** An extended result code, or a word of our own or of Deno's. */
  readonly code?: number | string | undefined;
}

export class SqliteError extends Error {
  override readonly name = "SqliteError";
  readonly code: number | string | undefined;

  constructor({ message, code }: SqliteErrorFields) {
    super(message);
    this.code = code;
  }
}

/** What of these it was; undefined for all else. */
export function failureOf(error: unknown): SqlFailure | undefined {
  if (error instanceof SqliteError) {
    const { code = "" } = error;
    const primary = typeof code === "number" ? code & 0xff : undefined;
    const damaged = primary === CORRUPT || primary === NOT_A_DATABASE;
    return damaged ? "damaged" : RESULT_CODES[code];
  }
  const state = error instanceof Error && "code" in error ? error.code : undefined;
  if (typeof state !== "string") return undefined;
  return state.startsWith("XX") ? "damaged" : SQL_STATES[state];
}
