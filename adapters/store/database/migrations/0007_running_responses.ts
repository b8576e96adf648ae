/** Responses that run while nobody waits for them: until when whoever runs one vouches for it. */
import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export function runningResponsesMigration(): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.alterTable("responses").addColumn("running_until", "bigint").execute();
    },
  };
}
