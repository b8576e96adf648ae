/** An error that the database raised, whichever database it was. */
import type { SqlErrorFields } from "./pglite_protocol.ts";

/** As `pg`'s DatabaseError: `code` is the SQLSTATE. */
export class SqlError extends Error {
  override readonly name = "SqlError";
  readonly code: string | undefined;
  readonly detail: string | undefined;
  readonly constraint: string | undefined;

  constructor({ message, code, detail, constraint }: SqlErrorFields) {
    super(message);
    this.code = code;
    this.detail = detail;
    this.constraint = constraint;
  }
}

/** SQLSTATEs that callers tell apart. */
export const SQL_STATES = {
  uniqueViolation: "23505",
  foreignKeyViolation: "23503",
  /** A text with a NUL, or (in JSON) with half a character: PostgreSQL keeps neither. */
  badCharacter: "22021",
  badJsonCharacter: "22P05",
} as const;

/** The SQLSTATE of an error of either database. */
export function sqlState(error: unknown): string | undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}
