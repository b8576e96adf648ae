/** How versions of cores are looked up: by name, by number, by the digest's first digits. */
import { sql } from "kysely";
import type { AdapterVersion } from "../name.ts";
import type { CoreVersion } from "./core_store.ts";
import type { PageQuery } from "./paging.ts";
import { type Db, rowsFor } from "./sql_helpers.ts";

interface VersionRow {
  readonly tenant: string;
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  readonly base: string;
  readonly factors: string;
  readonly rank: number;
  readonly bytes: number;
  readonly created_at: number;
  readonly source: string;
  readonly state: string;
  readonly current: number | null;
}

/** Versions with what their core and their name say. */
function joined(db: Db) {
  return db.selectFrom("core_versions")
    .innerJoin("core_names", (join) =>
      join.onRef("core_names.tenant", "=", "core_versions.tenant")
        .onRef("core_names.name", "=", "core_versions.name"))
    .innerJoin("cores", "cores.digest", "core_versions.digest")
    .select([
      "core_versions.tenant",
      "core_versions.name",
      "core_versions.version",
      "core_versions.digest",
      "core_versions.bytes",
      "core_versions.created_at",
      "core_versions.source",
      "cores.base",
      "cores.factors",
      "cores.rank",
      "cores.state",
      "core_names.current",
    ]);
}

/** Newest first. */
export function versionsOf(db: Db, tenant: string, name: string) {
  return joined(db).where("core_versions.tenant", "=", tenant)
    .where("core_versions.name", "=", name).orderBy("core_versions.version", "desc");
}

/** @throws {RangeError} where a digest's first digits fit more than one version */
export async function resolveVersion(
  db: Db,
  tenant: string,
  name: string,
  version: AdapterVersion,
): Promise<CoreVersion | undefined> {
  const found = await matching(db, tenant, name, version).execute();
  if (found.length > 1) {
    throw new RangeError(
      `Cannot choose ${tenant}/${name}: ${found.map(({ digest }) => digest).join(", ")} fit`,
    );
  }
  return found[0] && toVersion(found[0]);
}

function matching(db: Db, tenant: string, name: string, version: AdapterVersion) {
  const versions = versionsOf(db, tenant, name);
  switch (version.type) {
    case "latest":
      return versions.whereRef("core_versions.version", "=", "core_names.current");
    case "number":
      return versions.where("core_versions.version", "=", version.number);
    case "digest":
      // hex digits: nothing in them means anything to LIKE
      return versions.where("core_versions.digest", "like", `${version.prefix}%`).limit(2);
  }
}

/** The current or newest version of each name. */
export function allVersions(db: Db, tenant: string | undefined, query: PageQuery) {
  const { after, order } = query;
  let rows = joined(db)
    .where(sql<boolean>`core_versions.version = coalesce(core_names.current,
      (SELECT max(v.version) FROM core_versions v
       WHERE v.tenant = core_names.tenant AND v.name = core_names.name))`)
    .orderBy("core_names.tenant", order).orderBy("core_names.name", order);
  if (tenant !== undefined) rows = rows.where("core_names.tenant", "=", tenant);
  if (after !== undefined) rows = rows.where(behind(after, order));
  const limit = rowsFor(query);
  return limit === undefined ? rows : rows.limit(limit);
}

function behind(after: string, order: PageQuery["order"]) {
  const slash = after.indexOf("/");
  const [tenant, name] = [after.slice(0, slash), after.slice(slash + 1)];
  const here = sql`(core_names.tenant, core_names.name)`;
  return order === "asc"
    ? sql<boolean>`${here} > (${tenant}, ${name})`
    : sql<boolean>`${here} < (${tenant}, ${name})`;
}

export function toVersion({ created_at, current, ...row }: VersionRow): CoreVersion {
  return {
    ...row,
    createdAt: created_at,
    state: row.state === "stored" ? "stored" : "quarantined",
    current: current === row.version,
  };
}
