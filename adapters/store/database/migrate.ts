/**
 * Brings a database's schema up to date, once whoever comes first: kysely runs the steps under an
 * advisory lock. It owns their order; what each does is in `migrations/`.
 */
import { type Migration, Migrator } from "kysely/migration";
import type { Database } from "./database.ts";
import { tenantsMigration } from "./migrations/0001_tenants.ts";
import { contentsMigration } from "./migrations/0002_contents.ts";
import { jobsMigration } from "./migrations/0003_jobs.ts";
import { contentIndexesMigration } from "./migrations/0004_content_indexes.ts";

/** By name, in the order in which they are run. A released step is never changed. */
const MIGRATIONS: Readonly<Record<string, Migration>> = {
  "0001_tenants": tenantsMigration,
  "0002_contents": contentsMigration,
  "0003_jobs": jobsMigration,
  "0004_content_indexes": contentIndexesMigration,
};

/** @throws {Error} naming the step that failed; what it had done is undone */
export async function migrate(database: Database): Promise<void> {
  const migrator = new Migrator({
    db: database.db,
    provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) },
  });
  const { error, results } = await migrator.migrateToLatest();
  if (error === undefined) return;
  const failed = results?.find(({ status }) => status === "Error")?.migrationName ?? "";
  const reason = error instanceof Error ? error.message : String(error);
  throw new Error(`Cannot bring the database up to date: ${failed}: ${reason}`, { cause: error });
}
