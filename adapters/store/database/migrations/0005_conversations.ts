/** Conversations and their items, which stay until they are deleted. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Database } from "../database.ts";
import { COLUMN_TYPES } from "./column_types.ts";

export function conversationsMigration(kind: Database["kind"]): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.createTable("conversations")
        .addColumn("id", "text", (column) => column.primaryKey().notNull())
        .addColumn("tenant", sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`)
        .addColumn("created_at", "bigint", (column) => column.notNull())
        // with its items
        .addColumn("bytes", "bigint", (column) => column.notNull())
        .addColumn("metadata", sql`text NOT NULL`)
        .execute();
      await db.schema.createIndex("conversations_by_tenant").on("conversations").column("tenant")
        .execute();
      await db.schema.createTable("conversation_items")
        .addColumn("seq", COLUMN_TYPES[kind].sequence)
        .addColumn(
          "conversation",
          sql`text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE`,
        )
        .addColumn("id", "text", (column) => column.notNull())
        // not jsonb, which cannot have every character
        .addColumn("body", sql`text NOT NULL`)
        .addUniqueConstraint("conversation_items_id", ["conversation", "id"])
        .execute();
      await db.schema.createIndex("conversation_items_in_order").on("conversation_items")
        .columns(["conversation", "seq"]).execute();
    },
  };
}
