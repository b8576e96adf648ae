/**
 * Names and versions of cores and LoRAs: what a name stands for. Versions, contents and quota change together;
 * the cores' own rows are `core_rows.ts`'.
 */
import { sql } from "kysely";
import { readAdapter } from "../../lora/adapter_file.ts";
import { type AdapterVersion, parseAdapterName } from "../../catalog/name.ts";
import { FieldError, FieldRangeError } from "../../../src/util/errors.ts";
import { tell } from "../changes.ts";
import { collectCores, keepCore, readCoreFile } from "./core_rows.ts";
import {
  allVersions,
  type CoreVersion,
  resolveVersion,
  toVersion,
  versionsOf,
} from "./core_queries.ts";
import { type Db, transact, type Trx } from "../database/kysely.ts";
import type { StoreLog } from "../log.ts";
import { type Page, type PageQuery, toPage } from "../pages.ts";
import { charge } from "../tenants.ts";

interface PutMeta {
  readonly source: string;
  readonly publish: "now" | "later";
}

export class CoreStore {
  readonly #db: Db;
  readonly #log: StoreLog;

  constructor(db: Db, log: StoreLog) {
    this.#db = db;
    this.#log = log;
  }

  /**
   * Keeps a core or LoRA file as the name's next version; the same digest under the same name is the same
   * version (and mends it, where it was quarantined). `publish` "now" makes it current, "later"
   * leaves the name as it is.
   * @throws {TypeError} for what is no such file or no name; {RangeError} where the tenant is not
   *   there; {QuotaError} where it may store no more
   */
  put(tenant: string, name: string, bytes: Uint8Array, meta: PutMeta): Promise<CoreVersion> {
    return transact(this.#db, (trx) => putCore(trx, { tenant, name, bytes, ...meta }));
  }

  /** Makes a version current. @throws {FieldRangeError} where it is not there or quarantined */
  publish(tenant: string, name: string, version: number): Promise<CoreVersion> {
    return transact(this.#db, async (trx) => {
      const found = await versionAt(trx, { tenant, name, version });
      if (found === undefined) throw noVersion(tenant, name, version);
      if (found.state === "quarantined") {
        throw new FieldRangeError(
          "version",
          `Cannot publish ${tenant}/${name}@${version}: its content is damaged; put it again`,
        );
      }
      return await makeCurrent(trx, found);
    });
  }

  /** Makes the version before the current one current. @throws {FieldRangeError} if there is none */
  rollback(tenant: string, name: string): Promise<CoreVersion> {
    return transact(this.#db, async (trx) => {
      const all = await versionsOf(trx, tenant, name).forUpdate("coreNames").execute();
      const versions = all.map(toVersion);
      const current = versions.find((one) => one.current);
      const before = versions.find((one) =>
        one.state === "stored" && one.version < (current?.version ?? 0)
      );
      if (before !== undefined) return await makeCurrent(trx, before);
      const now = current === undefined ? "no version is current" : `${current.version} is current`;
      throw new FieldRangeError(
        "name",
        `Cannot roll ${tenant}/${name} back: ${now}, none is before it`,
      );
    });
  }

  /**
   * "latest" = the current version; undefined where there is none.
   * @throws {RangeError} where a digest prefix fits more than one version
   */
  resolve(
    tenant: string,
    name: string,
    version: AdapterVersion,
  ): Promise<CoreVersion | undefined> {
    return resolveVersion(this.#db, tenant, name, version);
  }

  /**
   * Current versions by tenant and name, or the newest where none is current. undefined = of all
   * tenants, for administrators. `after` is `tenant/name`, need not exist, and `order` "asc" is
   * alphabetical.
   */
  async list(tenant: string | undefined, query: PageQuery): Promise<Page<CoreVersion>> {
    return toPage(await allVersions(this.#db, tenant, query), query, toVersion);
  }

  /** Newest first; empty for an unknown name. */
  async versions(tenant: string, name: string): Promise<readonly CoreVersion[]> {
    return (await versionsOf(this.#db, tenant, name).execute()).map(toVersion);
  }

  /**
   * Removes a version, or all with undefined; returns how many. Where the current one goes, the name
   * stands for the version before it (or, without one, for nothing).
   */
  remove(tenant: string, name: string, version: number | undefined): Promise<number> {
    return transact(this.#db, (trx) => removeVersions(trx, { tenant, name, version }));
  }

  /** The file; its digest is checked. @throws {RangeError | TypeError} gone, or quarantined */
  bytes(digest: string): Promise<Uint8Array<ArrayBuffer>> {
    return readCoreFile(this.#db, digest, this.#log);
  }
}

interface VersionKey {
  readonly tenant: string;
  readonly name: string;
  readonly version: number;
}

/** `CoreStore.put` in a transaction of others' too. */
export async function putCore(
  trx: Trx,
  { tenant, name, bytes, source, publish }:
    & PutMeta
    & Pick<VersionKey, "tenant" | "name">
    & { readonly bytes: Uint8Array },
): Promise<CoreVersion> {
  checkName(name);
  const core = readAdapter(bytes);
  // first, so that writers of one tenant come one after the other
  await charge(trx, tenant, 0);
  await keepCore(trx, core, bytes);
  const known = await trx.selectFrom("coreVersions").select("version")
    .where("tenant", "=", tenant).where("name", "=", name).where("digest", "=", core.digest)
    .executeTakeFirst();
  const version = known?.version ?? await nextVersion(trx, tenant, name);
  const key = { tenant, name, version };
  if (known === undefined) {
    await charge(trx, tenant, bytes.length);
    const row = { digest: core.digest, bytes: bytes.length, createdAt: Date.now(), source };
    await trx.insertInto("coreVersions").values({ ...key, ...row }).execute();
  }
  const found = await versionAt(trx, key);
  if (found === undefined) throw new Error("internal: the version was there a moment ago");
  if (publish === "now" && !found.current) return await makeCurrent(trx, found);
  await tell(trx, "core", { tenant, id: name });
  return found;
}

/** `CoreStore.remove` in a transaction of others' too. */
export async function removeVersions(
  trx: Trx,
  { tenant, name, version }: Omit<VersionKey, "version"> & { readonly version: number | undefined },
): Promise<number> {
  let rows = trx.deleteFrom("coreVersions").where("tenant", "=", tenant).where("name", "=", name);
  if (version !== undefined) rows = rows.where("version", "=", version);
  const gone = await rows.returning(["version", "digest", "bytes"]).execute();
  if (gone.length === 0) return 0;
  await charge(trx, tenant, -gone.reduce((sum, { bytes }) => sum + bytes, 0));
  await stepBack(trx, tenant, name);
  await collectCores(trx, gone.map(({ digest }) => digest));
  await tell(trx, "core", { tenant, id: name });
  return gone.length;
}

/** Where the current version is gone, the one before it is current. */
async function stepBack(trx: Trx, tenant: string, name: string): Promise<void> {
  const left = sql`SELECT v.version FROM core_versions v JOIN cores c USING (digest)
    WHERE v.tenant = ${tenant} AND v.name = ${name}`;
  await sql`UPDATE core_names SET current =
      (SELECT max(version) FROM (${left} AND c.state = 'stored') AS b WHERE version < current)
    WHERE tenant = ${tenant} AND name = ${name} AND current IS NOT NULL
      AND current NOT IN (${left})`.execute(trx);
}

async function nextVersion(trx: Trx, tenant: string, name: string): Promise<number> {
  const { latest } = await trx.insertInto("coreNames")
    .values({ tenant, name, current: null, latest: 1 })
    .onConflict((conflict) =>
      conflict.columns(["tenant", "name"]).doUpdateSet({ latest: sql`core_names.latest + 1` })
    )
    .returning("latest").executeTakeFirstOrThrow();
  return latest;
}

async function versionAt(
  trx: Trx,
  { tenant, name, version }: VersionKey,
): Promise<CoreVersion | undefined> {
  const row = await versionsOf(trx, tenant, name).where("coreVersions.version", "=", version)
    .executeTakeFirst();
  return row && toVersion(row);
}

async function makeCurrent(trx: Trx, found: CoreVersion): Promise<CoreVersion> {
  const { tenant, name, version } = found;
  await trx.updateTable("coreNames").set({ current: version })
    .where("tenant", "=", tenant).where("name", "=", name).execute();
  await tell(trx, "core", { tenant, id: name });
  return { ...found, current: true };
}

function noVersion(tenant: string, name: string, version: number): FieldRangeError {
  return new FieldRangeError(
    "version",
    `Cannot find ${tenant}/${name}@${version}: there is no such version`,
  );
}

function checkName(name: string): void {
  const { tenant, version } = parseAdapterName(name);
  if (tenant === undefined && version.type === "latest") return;
  throw new FieldError(
    "name",
    `Cannot store a core as '${
      name.slice(0, 200)
    }': give its name alone, without tenant and version`,
  );
}
