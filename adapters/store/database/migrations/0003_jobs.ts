/** Training jobs with events, progress and checkpoints, and the models that they published. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";

const tenantColumn = sql`text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE`;
const jobColumn = sql`text NOT NULL REFERENCES jobs (id) ON DELETE CASCADE`;

export const jobsMigration: Migration = {
  up: async (db: Kysely<unknown>) => {
    await createJobs(db);
    await createCheckpoints(db);
    await createModels(db);
  },
};

async function createJobs(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("jobs")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
    .addColumn("tenant", tenantColumn)
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("record", "jsonb", (column) => column.notNull())
    .execute();
  await db.schema.createIndex("jobs_by_tenant").on("jobs").columns(["tenant", "seq"]).execute();
  await db.schema.createIndex("jobs_by_status").on("jobs").columns(["status", "seq"]).execute();
  await db.schema.createTable("job_events")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
    .addColumn("job", jobColumn)
    .addColumn("record", "jsonb", (column) => column.notNull())
    .execute();
  await db.schema.createIndex("job_events_by_job").on("job_events").columns(["job", "seq"])
    .execute();
}

async function createCheckpoints(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("job_progress")
    .addColumn("job", sql`text PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE`)
    .addColumn("content", "bigint", (column) => column.notNull().references("contents.id"))
    .execute();
  await db.schema.createTable("checkpoints")
    .addColumn("job", jobColumn)
    .addColumn("step", "integer", (column) => column.notNull())
    .addColumn("record", "jsonb", (column) => column.notNull())
    .addColumn("core", "text", (column) => column.notNull().references("cores.digest"))
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("checkpoints_key", ["job", "step"])
    .execute();
  await db.schema.createIndex("checkpoints_by_core").on("checkpoints").column("core").execute();
}

async function createModels(db: Kysely<unknown>): Promise<void> {
  await db.schema.createTable("models")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.generatedAlwaysAsIdentity())
    .addColumn("tenant", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("version", "integer", (column) => column.notNull())
    .addColumn("record", "jsonb", (column) => column.notNull())
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
