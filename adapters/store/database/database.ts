/**
 * One SQL database that many tables share: SQLite in a data directory, or a PostgreSQL server. Both
 * have kysely as `db`, notices that `pg_notify` sends (`listen`), and a word when some may be missing
 * (`onReconnect`).
 */
import type { PostgresDatabase } from "./postgres_database.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";

export type Database = SqliteDatabase | PostgresDatabase;
