/** What holds of the schema on any database, read from its own catalogue. */
import { assertEquals, assertGreater } from "@std/assert";
import type { Cases } from "./cases.ts";

/** Foreign keys, and whether an index begins with their columns, in whatever order. */
const FOREIGN_KEYS = `
  SELECT conrelid::regclass::text AS of, pg_get_constraintdef(oid) AS definition,
    EXISTS (
      SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
        AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
    ) AS indexed
  FROM pg_constraint
  WHERE contype = 'f' AND connamespace = 'public'::regnamespace`;

export const SCHEMA_CASES: Cases = {
  "every foreign key has an index: removing a row looks through no table": async ({ store }) => {
    const { rows } = await store.database.executeSql(FOREIGN_KEYS);
    assertGreater(rows.length, 10);
    const without = rows.filter(({ indexed }) => !indexed);
    assertEquals(without.map(({ of, definition }) => `${of}: ${definition}`), []);
  },
};
