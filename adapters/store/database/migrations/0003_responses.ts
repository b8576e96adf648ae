/** Stored responses, which go on from each other and expire. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Database } from "../database.ts";
import { COLUMN_TYPES } from "./column_types.ts";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;

export function responsesMigration(kind: Database["kind"]): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.createTable("responses")
        .addColumn("seq", COLUMN_TYPES[kind].sequence)
        .addColumn("id", "text", (column) => column.notNull().unique())
        .addColumn("tenant", tenantColumn)
        // may be gone: it refers to nothing
        .addColumn("previous", "text")
        .addColumn("created_at", "bigint", (column) => column.notNull())
        .addColumn("expires_at", "bigint", (column) => column.notNull())
        .addColumn("bytes", "bigint", (column) => column.notNull())
        // with all that it goes on from
        .addColumn("chain_bytes", "bigint", (column) => column.notNull())
        // not jsonb, which cannot have every character
        .addColumn("input", sql`text NOT NULL`)
        .addColumn("output", sql`text NOT NULL`)
        .addColumn("body", sql`text NOT NULL`)
        .execute();
      await db.schema.createIndex("responses_by_tenant").on("responses")
        .columns(["tenant", "expires_at"]).execute();
      await db.schema.createIndex("responses_by_expiry").on("responses").column("expires_at")
        .execute();
    },
  };
}
