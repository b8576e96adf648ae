/** kysely over either dialect: snake_case in the database, camelCase here. */
import { CamelCasePlugin, type Dialect, Kysely } from "kysely";
import type { Tables } from "./tables.ts";

export function kyselyOver(dialect: Dialect): Kysely<Tables> {
  return new Kysely<Tables>({ dialect, plugins: [new CamelCasePlugin()] });
}
