/** The tables of the schema as kysely types them: what each column holds. `migrations/` makes them. */

// deno-lint-ignore no-empty-interface -- filled below
export interface Tables {}
