/** What holds of the schema on either database, read from its own catalogue. */
import { assertEquals, assertGreater } from "@std/assert";
import type { Database } from "../../../adapters/store/database/database.ts";
import { type Cases, query } from "./cases.ts";

/** Foreign keys, and whether an index begins with their columns, in whatever order. */
const FOREIGN_KEYS: Readonly<Record<Database["kind"], string>> = {
  postgres: `
    SELECT conrelid::regclass::text AS of, pg_get_constraintdef(oid) AS definition,
      EXISTS (
        SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
          AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
      ) AS indexed
    FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'public'::regnamespace`,
  sqlite: `
    WITH keys AS (
      SELECT m.name AS of, f.id, count(*) AS columns, group_concat(f."from") AS definition
      FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) f
      WHERE m.type = 'table' GROUP BY m.name, f.id)
    SELECT of, definition, EXISTS (
      SELECT 1 FROM pragma_index_list(of) i WHERE NOT i.partial AND columns = (
        SELECT count(*) FROM pragma_index_info(i.name) c
        JOIN pragma_foreign_key_list(of) f ON f.id = keys.id AND f."from" = c.name
        WHERE c.seqno < columns)
    ) AS indexed FROM keys`,
};

export const SCHEMA_CASES: Cases = {
  "every foreign key has an index: removing a row looks through no table": async (
    { store: { database } },
  ) => {
    const rows = await query(database, FOREIGN_KEYS[database.kind]);
    assertGreater(rows.length, 10);
    const without = rows.filter(({ indexed }) => !indexed);
    assertEquals(without.map(({ of, definition }) => `${of}: ${definition}`), []);
  },
};
