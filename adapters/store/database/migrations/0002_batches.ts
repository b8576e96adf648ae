/** Files that expire, uploads in parts, and batches with the lines that have run. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Database } from "../database.ts";
import { COLUMN_TYPES, type ColumnTypes } from "./column_types.ts";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;

type Db = Kysely<unknown>;

export function batchesMigration(kind: Database["kind"]): Migration {
  return {
    up: async (db: Db) => {
      const types = COLUMN_TYPES[kind];
      await db.schema.alterTable("files").addColumn("expires_at", "bigint").execute();
      await sql`CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL`
        .execute(db);
      await createUploads(db, types);
      await createBatches(db, types);
    },
  };
}

async function createUploads(db: Db, { sequence, json }: ColumnTypes): Promise<void> {
  await db.schema.createTable("uploads")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", tenantColumn)
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("expires_at", "bigint", (column) => column.notNull())
    .addColumn("record", json, (column) => column.notNull())
    .execute();
  await db.schema.createIndex("uploads_by_tenant").on("uploads").column("tenant").execute();
  await db.schema.createIndex("uploads_by_end").on("uploads").column("expires_at").execute();
  await db.schema.createTable("upload_parts")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("upload", sql`text NOT NULL REFERENCES uploads (id) ON DELETE CASCADE`)
    .addColumn("content", sql`bigint NOT NULL REFERENCES contents (id)`)
    .execute();
  await db.schema.createIndex("upload_parts_by_upload").on("upload_parts").column("upload")
    .execute();
  await db.schema.createIndex("upload_parts_by_content").on("upload_parts").column("content")
    .execute();
}

async function createBatches(db: Db, { sequence, bytes, json }: ColumnTypes): Promise<void> {
  await db.schema.createTable("batches")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", tenantColumn)
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("input_file", "text", (column) => column.notNull())
    .addColumn("record", json, (column) => column.notNull())
    .execute();
  await db.schema.createIndex("batches_by_tenant").on("batches").columns(["tenant", "seq"])
    .execute();
  await db.schema.createIndex("batches_by_status").on("batches").columns(["status", "seq"])
    .execute();
  await db.schema.createIndex("batches_by_file").on("batches").column("input_file").execute();
  await db.schema.createTable("batch_results")
    .addColumn("batch", sql`text NOT NULL REFERENCES batches (id) ON DELETE CASCADE`)
    .addColumn("line", "integer", (column) => column.notNull())
    .addColumn("failed", "integer", (column) => column.notNull())
    .addColumn("data", bytes, (column) => column.notNull())
    .addPrimaryKeyConstraint("batch_results_key", ["batch", "line"])
    .execute();
}
