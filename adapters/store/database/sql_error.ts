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

/** PostgreSQL's word for a text that cannot be kept. */
export const BAD_CHARACTER = "22021";

/** SQLSTATEs of PostgreSQL. */
const SQL_STATES: ReadonlyMap<unknown, SqlFailure> = new Map([
  ["23505", "unique"],
  ["23503", "foreign key"],
  ["40001", "conflict"],
  ["40P01", "conflict"],
  [BAD_CHARACTER, "bad character"],
  ["22P05", "bad character"],
]);

/** Result codes of SQLite: extended ones, and primary ones, which are an extended one's last byte. */
const RESULT_CODES: ReadonlyMap<unknown, SqlFailure> = new Map([
  [1555, "unique"],
  [2067, "unique"],
  [787, "foreign key"],
  [11, "damaged"],
  [26, "damaged"],
]);

/** What of these an error of pg or of node:sqlite is; undefined for all else. */
export function failureOf(error: unknown): SqlFailure | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, errcode } = error as Error & {
    readonly code?: unknown;
    readonly errcode?: unknown;
  };
  if (typeof errcode === "number") {
    return RESULT_CODES.get(errcode) ?? RESULT_CODES.get(errcode & 255);
  }
  if (typeof code === "string" && code.startsWith("XX")) return "damaged";
  return SQL_STATES.get(code);
}
