/** Indexes behind the foreign keys to contents: removing content looks for what points to it. */
import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

const POINTING = ["files", "factor_sets", "cores", "job_progress"] as const;

export const contentIndexesMigration: Migration = {
  up: async (db: Kysely<unknown>) => {
    for (const table of POINTING) {
      await db.schema.createIndex(`${table}_by_content`).on(table).column("content").execute();
    }
  },
};
