/**
 * Cores that jobs made, under their `ft:` names. The core itself lies among the cores, under the
 * tenant's name and version that the record says.
 */
import { tell } from "./changes.ts";
import { putCore, removeVersions } from "./cores/cores.ts";
import { type Db, transact } from "./database/kysely.ts";
import { charge } from "./tenants.ts";

/** A core that a job made, served by name. */
export interface PublishedModel {
  /** `ft:BASE:TENANT:SUFFIX:ID`. */
  readonly id: string;
  readonly jobId: string;
  readonly tenant: string;
  /** Its adapter's name within the tenant. */
  readonly name: string;
  readonly version: number;
  readonly createdAt: number;
  /** Digests of the base, of the core, and of the factor set that it names. */
  readonly base: string;
  readonly core: string;
  readonly factors: string;
  /** What its job says once this is published: a crash in between loses nothing. */
  readonly trainedTokens: number;
  readonly resultFiles: readonly string[];
}

/** A model to publish; the store gives it its version. */
export type NewModel = Omit<PublishedModel, "version" | "tenant">;

/** Of one tenant. */
export class ModelStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /**
   * Keeps the core as its name's next version, makes that current, and writes the model down: one
   * transaction, the moment at which it is published. One of the same id is replaced.
   * @throws {TypeError} for what is no core file; {RangeError} where the tenant is not there;
   *   {QuotaError} where it may store no more
   */
  publish(model: NewModel, bytes: Uint8Array): Promise<PublishedModel> {
    const tenant = this.#tenant;
    const { id, name } = model;
    return transact(this.#db, async (trx) => {
      const core = { tenant, name, bytes, source: id, publish: "now" } as const;
      const { version, digest } = await putCore(trx, core);
      if (digest !== model.core) {
        throw new TypeError(`Cannot publish ${id}: its core is ${digest}, not ${model.core}`);
      }
      const published: PublishedModel = { ...model, tenant, version };
      const row = { tenant, name, version, record: JSON.stringify(published) };
      await trx.insertInto("models").values({ id, ...row })
        .onConflict((conflict) =>
          conflict.column("id").doUpdateSet(row).where("models.tenant", "=", tenant)
        ).execute();
      await tell(trx, "model", { tenant, id });
      return published;
    });
  }

  /** Oldest first. */
  async all(): Promise<readonly PublishedModel[]> {
    return toModels(await this.#rows().orderBy("seq").execute());
  }

  async find(id: string): Promise<PublishedModel | undefined> {
    const row = await this.#rows().where("id", "=", id).executeTakeFirst();
    return row && JSON.parse(row.record) as PublishedModel;
  }

  /** Removes the model and its core's version. Whether there was one. */
  remove(id: string): Promise<boolean> {
    const tenant = this.#tenant;
    return transact(this.#db, async (trx) => {
      await charge(trx, tenant, 0);
      const row = await trx.deleteFrom("models").where("tenant", "=", tenant).where("id", "=", id)
        .returning(["name", "version"]).executeTakeFirst();
      if (row === undefined) return false;
      const { name, version } = row;
      const other = await trx.selectFrom("models").select("id").where("tenant", "=", tenant)
        .where("name", "=", name).where("version", "=", version).executeTakeFirst();
      if (other === undefined) await removeVersions(trx, { tenant, name, version });
      await tell(trx, "model", { tenant, id });
      return true;
    });
  }

  #rows() {
    return this.#db.selectFrom("models").select("record").where("tenant", "=", this.#tenant);
  }
}

/** Published models of all tenants. */
export class ModelDirectory {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** Oldest first. */
  async all(): Promise<readonly PublishedModel[]> {
    return toModels(await this.#db.selectFrom("models").select("record").orderBy("seq").execute());
  }
}

function toModels(rows: readonly { readonly record: string }[]): readonly PublishedModel[] {
  return rows.map(({ record }) => JSON.parse(record) as PublishedModel);
}
