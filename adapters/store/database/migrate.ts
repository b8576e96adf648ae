/**
 * Brings a database's schema up to date in one transaction, once whoever comes first. What each step
 * does is in `migrations/`; a released step is never changed.
 */
import { type Migration, Migrator } from "kysely/migration";
import type { Database } from "./database.ts";
import { schemaMigration } from "./migrations/0001_schema.ts";
import { batchesMigration } from "./migrations/0002_batches.ts";
import { responsesMigration } from "./migrations/0003_responses.ts";
import { chatsMigration } from "./migrations/0004_chats.ts";
import { conversationsMigration } from "./migrations/0005_conversations.ts";
import { lorasMigration } from "./migrations/0006_loras.ts";
import { runningResponsesMigration } from "./migrations/0007_running_responses.ts";

/** By name, in the order in which they are run. */
function migrationsFor(kind: Database["kind"]): Record<string, Migration> {
  return {
    "0001_schema": schemaMigration(kind),
    "0002_batches": batchesMigration(kind),
    "0003_responses": responsesMigration(kind),
    "0004_chats": chatsMigration(kind),
    "0005_conversations": conversationsMigration(kind),
    "0006_loras": lorasMigration(),
    "0007_running_responses": runningResponsesMigration(),
  };
}

/** @throws {Error} naming the step that failed; what it had done is undone */
export async function migrate({ db, kind }: Database): Promise<void> {
  const migrations = migrationsFor(kind);
  const provider = { getMigrations: () => Promise.resolve(migrations) };
  const { error, results } = await new Migrator({ db, provider }).migrateToLatest();
  if (error === undefined) return;
  const failed = results?.find(({ status }) => status === "Error")?.migrationName ?? "";
  const reason = error instanceof Error ? error.message : String(error);
  throw new Error(`Cannot bring the database up to date: ${failed}: ${reason}`, { cause: error });
}
