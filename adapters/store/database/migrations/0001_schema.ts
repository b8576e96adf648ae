/**
 * The first schema, for both databases: tenants with keys and usage, contents in chunks and what
 * points to them, and jobs with the models that they published.
 */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Database } from "../database.ts";
import { COLUMN_TYPES, type ColumnTypes as Types } from "./column_types.ts";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;
const jobColumn = sql`text NOT NULL REFERENCES jobs (id) ON DELETE CASCADE`;
const contentColumn = sql`bigint NOT NULL REFERENCES contents (id)`;

type Db = Kysely<unknown>;

export function schemaMigration(kind: Database["kind"]): Migration {
  return {
    up: async (db: Db) => {
      const types = COLUMN_TYPES[kind];
      await createTenants(db, types);
      await createUsage(db);
      await createContents(db, types);
      await createFiles(db, types);
      await createCores(db, types);
      await createVersions(db);
      await createJobs(db, types);
      await createCheckpoints(db, types);
      await createModels(db, types);
      // weights do not compress; trying costs more than reading
      if (kind === "postgres") {
        await sql`ALTER TABLE chunks ALTER data SET STORAGE EXTERNAL`.execute(db);
      } else await createQueue(db, types);
    },
  };
}

async function createTenants(db: Db, { sequence, bytes, json }: Types): Promise<void> {
  await db.schema.createTable("tenants")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("limits", json, (column) => column.notNull())
    // kept with every file, version and checkpoint that comes or goes
    .addColumn("stored_bytes", "bigint", (column) => column.notNull().defaultTo(0))
    .execute();
  await db.schema.createTable("keys")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", tenantColumn)
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("hint", "text", (column) => column.notNull())
    .addColumn("hash", bytes, (column) => column.notNull().unique())
    .addColumn("scopes", json, (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("expires_at", "bigint")
    .addColumn("revoked_at", "bigint")
    .execute();
  await db.schema.createIndex("keys_by_tenant").on("keys").columns(["tenant", "seq"]).execute();
  await db.schema.createTable("secrets")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("bytes", bytes, (column) => column.notNull())
    .execute();
}

/** Usage outlives its tenant: bills are written afterwards. */
async function createUsage(db: Db): Promise<void> {
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

async function createContents(db: Db, { sequence, bytes }: Types): Promise<void> {
  await db.schema.createTable("contents")
    .addColumn("id", sequence)
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addColumn("sha256", "text", (column) => column.notNull())
    // what still arrives, and when its last chunk came; null = it is whole
    .addColumn("arriving_at", "bigint")
    .execute();
  await sql`CREATE INDEX contents_arriving ON contents (arriving_at) WHERE arriving_at IS NOT NULL`
    .execute(db);
  await db.schema.createTable("chunks")
    .addColumn("content", sql`bigint NOT NULL REFERENCES contents (id) ON DELETE CASCADE`)
    .addColumn("seq", "integer", (column) => column.notNull())
    .addColumn("data", bytes, (column) => column.notNull())
    .addPrimaryKeyConstraint("chunks_key", ["content", "seq"])
    .execute();
}

/** Removing content looks for what points to it. */
async function indexContent(db: Db, table: string): Promise<void> {
  await db.schema.createIndex(`${table}_by_content`).on(table).column("content").execute();
}

async function createFiles(db: Db, { sequence }: Types): Promise<void> {
  await db.schema.createTable("files")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", tenantColumn)
    .addColumn("filename", "text", (column) => column.notNull())
    .addColumn("purpose", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("content", contentColumn)
    .execute();
  await db.schema.createIndex("files_by_tenant").on("files").columns(["tenant", "seq"]).execute();
  await indexContent(db, "files");
}

/** One row a digest, whoever and however many names point to it. */
async function createCores(db: Db, { sequence }: Types): Promise<void> {
  await db.schema.createTable("factor_sets")
    .addColumn("seq", sequence)
    .addColumn("digest", "text", (column) => column.notNull().unique())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("content", contentColumn)
    .execute();
  await indexContent(db, "factor_sets");
  await db.schema.createTable("cores")
    .addColumn("digest", "text", (column) => column.primaryKey())
    .addColumn("base", "text", (column) => column.notNull())
    .addColumn("factors", "text", (column) => column.notNull())
    .addColumn("rank", "integer", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("content", contentColumn)
    .execute();
  await indexContent(db, "cores");
}

async function createVersions(db: Db): Promise<void> {
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

async function createJobs(db: Db, { sequence, json }: Types): Promise<void> {
  await db.schema.createTable("jobs")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", tenantColumn)
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("record", json, (column) => column.notNull())
    .execute();
  await db.schema.createIndex("jobs_by_tenant").on("jobs").columns(["tenant", "seq"]).execute();
  await db.schema.createIndex("jobs_by_status").on("jobs").columns(["status", "seq"]).execute();
  await db.schema.createTable("job_events")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("job", jobColumn)
    .addColumn("record", json, (column) => column.notNull())
    .execute();
  await db.schema.createIndex("job_events_by_job").on("job_events").columns(["job", "seq"])
    .execute();
}

async function createCheckpoints(db: Db, { json }: Types): Promise<void> {
  await db.schema.createTable("job_progress")
    .addColumn("job", jobColumn, (column) => column.primaryKey())
    .addColumn("content", contentColumn)
    .execute();
  await indexContent(db, "job_progress");
  await db.schema.createTable("checkpoints")
    .addColumn("job", jobColumn)
    .addColumn("step", "integer", (column) => column.notNull())
    .addColumn("record", json, (column) => column.notNull())
    .addColumn("core", "text", (column) => column.notNull().references("cores.digest"))
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("checkpoints_key", ["job", "step"])
    .execute();
  await db.schema.createIndex("checkpoints_by_core").on("checkpoints").column("core").execute();
}

async function createModels(db: Db, { sequence, json }: Types): Promise<void> {
  await db.schema.createTable("models")
    .addColumn("seq", sequence)
    .addColumn("id", "text", (column) => column.notNull().unique())
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("version", "integer", (column) => column.notNull())
    .addColumn("record", json, (column) => column.notNull())
    .addForeignKeyConstraint(
      "models_version",
      ["tenant", "name", "version"],
      "core_versions",
      ["tenant", "name", "version"],
      (constraint) => constraint.onDelete("cascade"),
    )
    .execute();
  await db.schema.createIndex("models_by_version").on("models")
    .columns(["tenant", "name", "version"]).execute();
}

async function createQueue(db: Db, { sequence }: Types): Promise<void> {
  await db.schema.createTable("queue")
    .addColumn("seq", sequence)
    .addColumn("queue", "text", (column) => column.notNull())
    .addColumn("job", "text", (column) => column.notNull())
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("start_at", "bigint", (column) => column.notNull())
    .addColumn("claim", "text")
    .addUniqueConstraint("queue_job", ["queue", "job"])
    .execute();
}
