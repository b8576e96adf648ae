/** Stored chat completions, which are listed and expire. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Database } from "../database.ts";
import { COLUMN_TYPES } from "./column_types.ts";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;

export function chatsMigration(kind: Database["kind"]): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.createTable("chats")
        .addColumn("seq", COLUMN_TYPES[kind].sequence)
        .addColumn("id", "text", (column) => column.notNull().unique())
        .addColumn("tenant", tenantColumn)
        .addColumn("model", "text", (column) => column.notNull())
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("expires_at", "bigint", (column) => column.notNull())
        .addColumn("bytes", "bigint", (column) => column.notNull())
        // not jsonb, which cannot have every character
        .addColumn("metadata", sql`text NOT NULL`)
        .addColumn("messages", sql`text NOT NULL`)
        .addColumn("body", sql`text NOT NULL`)
        .execute();
      await db.schema.createIndex("chats_by_tenant").on("chats").columns(["tenant", "seq"])
        .execute();
      await db.schema.createIndex("chats_by_expiry").on("chats").column("expires_at").execute();
    },
  };
}
