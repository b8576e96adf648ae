/** The first tables: tenants, their keys, what they use, and what all processes share. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

export const tenantsMigration: Migration = {
  up: async (db: Kysely<unknown>) => {
    await db.schema.createTable("tenants")
      .addColumn("id", "text", (column) => column.primaryKey())
      .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
      .addColumn("created_at", "bigint", (column) => column.notNull())
      .addColumn("limits", "jsonb", (column) => column.notNull())
      // kept with every file, version and checkpoint that comes or goes
      .addColumn("stored_bytes", "bigint", (column) => column.notNull().defaultTo(0))
      .execute();
    await db.schema.createTable("keys")
      .addColumn("id", "text", (column) => column.primaryKey())
      .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
      .addColumn(
        "tenant",
        "text",
        (column) => column.notNull().references("tenants.id").onDelete("cascade"),
      )
      .addColumn("name", "text", (column) => column.notNull())
      .addColumn("hint", "text", (column) => column.notNull())
      .addColumn("hash", "bytea", (column) => column.notNull().unique())
      .addColumn("scopes", sql`text[]`, (column) => column.notNull())
      .addColumn("created_at", "bigint", (column) => column.notNull())
      .addColumn("expires_at", "bigint")
      .addColumn("revoked_at", "bigint")
      .execute();
    await db.schema.createIndex("keys_by_tenant").on("keys").columns(["tenant", "seq"]).execute();
    await createUsage(db);
    await db.schema.createTable("secrets")
      .addColumn("name", "text", (column) => column.primaryKey())
      .addColumn("bytes", "bytea", (column) => column.notNull())
      .execute();
  },
};

/** Usage outlives its tenant: bills are written afterwards. */
async function createUsage(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("usage")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("at", "bigint", (column) => column.notNull())
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("key_id", "text")
    .addColumn("model", "text", (column) => column.notNull())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("prompt_tokens", "bigint", (column) => column.notNull())
    .addColumn("cached_tokens", "bigint", (column) => column.notNull())
    .addColumn("completion_tokens", "bigint", (column) => column.notNull())
    .addColumn("trained_tokens", "bigint", (column) => column.notNull())
    .addColumn("request_id", "text", (column) => column.notNull())
    .execute();
  await db.schema.createIndex("usage_by_tenant").on("usage").columns(["tenant", "at"]).execute();
  await db.schema.createIndex("usage_by_time").on("usage").column("at").execute();
}
