/** What the two databases call differently, for the steps beside this file. */
import { type RawBuilder, sql } from "kysely";
import type { Database } from "../database.ts";

export interface ColumnTypes {
  /** Rising from row to row, never used twice, and the primary key. */
  readonly sequence: RawBuilder<unknown>;
  readonly bytes: RawBuilder<unknown>;
  readonly json: RawBuilder<unknown>;
}

export const COLUMN_TYPES: Readonly<Record<Database["kind"], ColumnTypes>> = {
  sqlite: {
    sequence: sql`integer PRIMARY KEY AUTOINCREMENT`,
    bytes: sql`blob`,
    json: sql`text`,
  },
  postgres: {
    sequence: sql`bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY`,
    bytes: sql`bytea`,
    json: sql`jsonb`,
  },
};
