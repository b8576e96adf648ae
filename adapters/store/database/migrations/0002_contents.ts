/** Contents in chunks, and what points to them: files, cores with versions, factor sets. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;

export const contentsMigration: Migration = {
  up: async (db: Kysely<unknown>) => {
    await createContents(db);
    await createFiles(db);
    await createCores(db);
    await createVersions(db);
  },
};

async function createContents(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("contents")
    .addColumn("id", "bigint", (column) => column.primaryKey().generatedAlwaysAsIdentity())
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addColumn("sha256", "text", (column) => column.notNull())
    // what still arrives, and when its last chunk came; null = it is whole
    .addColumn("arriving_at", "bigint")
    .execute();
  await sql`CREATE INDEX contents_arriving ON contents (arriving_at) WHERE arriving_at IS NOT NULL`
    .execute(db);
  await db.schema.createTable("chunks")
    .addColumn(
      "content",
      "bigint",
      (column) => column.notNull().references("contents.id").onDelete("cascade"),
    )
    .addColumn("seq", "integer", (column) => column.notNull())
    .addColumn("data", "bytea", (column) => column.notNull())
    .addPrimaryKeyConstraint("chunks_key", ["content", "seq"])
    .execute();
  // weights do not compress; trying costs more than reading
  await sql`ALTER TABLE chunks ALTER COLUMN data SET STORAGE EXTERNAL`.execute(db);
}

async function createFiles(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("files")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
    .addColumn("tenant", tenantColumn)
    .addColumn("filename", "text", (column) => column.notNull())
    .addColumn("purpose", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("content", "bigint", (column) => column.notNull().references("contents.id"))
    .execute();
  await db.schema.createIndex("files_by_tenant").on("files").columns(["tenant", "seq"]).execute();
  await db.schema.createTable("factor_sets")
    .addColumn("digest", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("content", "bigint", (column) => column.notNull().references("contents.id"))
    .execute();
}

/** One row a digest, whoever and however many names point to it. */
async function createCores(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("cores")
    .addColumn("digest", "text", (column) => column.primaryKey())
    .addColumn("base", "text", (column) => column.notNull())
    .addColumn("factors", "text", (column) => column.notNull())
    .addColumn("rank", "integer", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("content", "bigint", (column) => column.notNull().references("contents.id"))
    .execute();
}

async function createVersions(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("core_names")
    .addColumn("tenant", tenantColumn)
    .addColumn("name", "text", (column) => column.notNull())
    // null = the name stands for nothing now
    .addColumn("current", "integer")
    // stays when versions go, so that no number is used twice
    .addColumn("latest", "integer", (column) => column.notNull())
    .addPrimaryKeyConstraint("core_names_key", ["tenant", "name"])
    .execute();
  await db.schema.createTable("core_versions")
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("version", "integer", (column) => column.notNull())
    .addColumn("digest", "text", (column) => column.notNull().references("cores.digest"))
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("source", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("core_versions_key", ["tenant", "name", "version"])
    .addUniqueConstraint("core_versions_content", ["tenant", "name", "digest"])
    .addForeignKeyConstraint(
      "core_versions_name",
      ["tenant", "name"],
      "core_names",
      ["tenant", "name"],
      (constraint) => constraint.onDelete("cascade"),
    )
    .execute();
  await db.schema.createIndex("core_versions_by_digest").on("core_versions").column("digest")
    .execute();
}
