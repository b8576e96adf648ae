/** LoRAs among the cores: they have no factor set, and a rank of each module. */
import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export function lorasMigration(): Migration {
  return {
    up: async (db: Kysely<unknown>) => {
      await db.schema.alterTable("cores").addColumn("ranks", "text").execute();
    },
  };
}
