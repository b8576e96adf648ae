/** How versions of cores are looked up: by name, by number, by the digest's first digits. */
import { type RawBuilder, type SelectQueryBuilder, sql } from "kysely";
import type { LoraRanks } from "../../../src/models/lora.ts";
import { FieldRangeError } from "../../../src/util/errors.ts";
import type { AdapterVersion } from "../../catalog/name.ts";
import type { Db } from "../database/kysely.ts";
import type { Tables } from "../database/tables.ts";
import { beyond, limited, type PageQuery } from "../pages.ts";

/** One version of a core, or a LoRA, under a tenant's name. */
export interface CoreVersion {
  readonly tenant: string;
  readonly name: string;
  /** From 1; never used again, even after removal. */
  readonly version: number;
  /** Of the core and its base, hex. */
  readonly digest: string;
  readonly base: string;
  /** Of a core's factor set, hex; undefined for a LoRA. */
  readonly factors: string | undefined;
  /** A LoRA's highest. */
  readonly rank: number;
  /** A LoRA's, by module; undefined for a core. */
  readonly ranks: LoraRanks | undefined;
  /** Of the file. */
  readonly bytes: number;
  readonly createdAt: number;
  /** Where it came from, for people. */
  readonly source: string;
  /** "quarantined": its content is not what was stored; it cannot be loaded. */
  readonly state: "stored" | "quarantined";
  /** Whether the bare name stands for this version. */
  readonly current: boolean;
}

interface VersionRow {
  readonly tenant: string;
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  readonly base: string;
  readonly factors: string;
  readonly rank: number;
  readonly ranks: string | null;
  readonly bytes: number;
  readonly createdAt: number;
  readonly source: string;
  readonly state: string;
  readonly current: number | null;
}

const VERSION_COLUMNS = [
  "coreVersions.tenant",
  "coreVersions.name",
  "coreVersions.version",
  "coreVersions.digest",
  "coreVersions.bytes",
  "coreVersions.createdAt",
  "coreVersions.source",
  "cores.base",
  "cores.factors",
  "cores.rank",
  "cores.ranks",
  "cores.state",
] as const;

type VersionQuery = SelectQueryBuilder<
  Tables,
  "coreVersions" | "coreNames" | "cores",
  VersionRow
>;

/** Versions with what their core and their name say. */
function joined(db: Db): VersionQuery {
  return db.selectFrom("coreVersions")
    .innerJoin("coreNames", (join) =>
      join.onRef("coreNames.tenant", "=", "coreVersions.tenant")
        .onRef("coreNames.name", "=", "coreVersions.name"))
    .innerJoin("cores", "cores.digest", "coreVersions.digest")
    .select([...VERSION_COLUMNS, "coreNames.current"]);
}

/** Newest first. */
export function versionsOf(db: Db, tenant: string, name: string): VersionQuery {
  return joined(db).where("coreVersions.tenant", "=", tenant)
    .where("coreVersions.name", "=", name).orderBy("coreVersions.version", "desc");
}

/** @throws {FieldRangeError} where a digest's first digits fit more than one version */
export async function resolveVersion(
  db: Db,
  tenant: string,
  name: string,
  version: AdapterVersion,
): Promise<CoreVersion | undefined> {
  const found = await matching(db, tenant, name, version).execute();
  if (found.length > 1) {
    throw new FieldRangeError(
      "version",
      `Cannot choose ${tenant}/${name}: ${found.map(({ digest }) => digest).join(", ")} fit`,
    );
  }
  return found[0] && toVersion(found[0]);
}

function matching(db: Db, tenant: string, name: string, version: AdapterVersion): VersionQuery {
  const versions = versionsOf(db, tenant, name);
  switch (version.type) {
    case "latest":
      return versions.whereRef("coreVersions.version", "=", "coreNames.current");
    case "number":
      return versions.where("coreVersions.version", "=", version.number);
    case "digest":
      return versions.where(startsWith(version.prefix)).limit(2);
  }
}

function startsWith(prefix: string): RawBuilder<boolean> {
  return sql<boolean>`substr(core_versions.digest, 1, ${sql.lit(prefix.length)}) = ${prefix}`;
}

/** A name's current or newest version; null where it has none. */
const SHOWN = sql<number>`coalesce(current, (SELECT max(v.version) FROM core_versions v
  WHERE v.tenant = core_names.tenant AND v.name = core_names.name))`;

/** The current or newest version of each name; the page is cut before anything is joined to it. */
export function allVersions(
  db: Db,
  tenant: string | undefined,
  query: PageQuery,
): Promise<readonly VersionRow[]> {
  const { after, order } = query;
  let names = db.selectFrom("coreNames").select(["tenant", "name", "current"])
    .select(SHOWN.as("shown")).where(SHOWN, "is not", null)
    .orderBy("tenant", order).orderBy("name", order);
  if (tenant !== undefined) names = names.where("tenant", "=", tenant);
  if (after !== undefined) names = names.where(behind(after, tenant, order));
  return db.selectFrom(limited(names, query).as("page"))
    .innerJoin("coreVersions", (join) =>
      join.onRef("coreVersions.tenant", "=", "page.tenant")
        .onRef("coreVersions.name", "=", "page.name")
        .onRef("coreVersions.version", "=", "page.shown"))
    .innerJoin("cores", "cores.digest", "coreVersions.digest")
    .select([...VERSION_COLUMNS, "page.current"])
    .orderBy("page.tenant", order).orderBy("page.name", order)
    .execute();
}

function behind(
  after: string,
  listed: string | undefined,
  order: PageQuery["order"],
): RawBuilder<boolean> {
  const slash = after.indexOf("/");
  const [tenant, name] = [after.slice(0, slash), after.slice(slash + 1)];
  const is = sql.raw(beyond(order));
  // SQLite uses no index for a row value whose first column is given already
  return tenant === listed
    ? sql<boolean>`name ${is} ${name}`
    : sql<boolean>`(tenant, name) ${is} (${tenant}, ${name})`;
}

export function toVersion({ current, factors, ranks, ...row }: VersionRow): CoreVersion {
  return {
    ...row,
    factors: ranks === null ? factors : undefined,
    ranks: ranks === null ? undefined : JSON.parse(ranks) as LoraRanks,
    state: row.state === "stored" ? "stored" : "quarantined",
    current: current === row.version,
  };
}
