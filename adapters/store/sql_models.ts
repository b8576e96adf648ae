/** Published models in SQL. It owns their rows; their cores and versions are `sql_cores.ts`'. */
import type { ModelDirectory, ModelStore, NewModel, PublishedModel } from "./model_store.ts";
import { tell } from "./sql_changes.ts";
import { putCore, removeVersions } from "./sql_cores.ts";
import { charge, type Db, transact } from "./sql_helpers.ts";

export class SqlModelStore implements ModelStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

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

  async all(): Promise<readonly PublishedModel[]> {
    return toModels(await this.#rows().orderBy("seq").execute());
  }

  async find(id: string): Promise<PublishedModel | undefined> {
    const row = await this.#rows().where("id", "=", id).executeTakeFirst();
    return row && JSON.parse(row.record) as PublishedModel;
  }

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

export class SqlModelDirectory implements ModelDirectory {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  async all(): Promise<readonly PublishedModel[]> {
    return toModels(await this.#db.selectFrom("models").select("record").orderBy("seq").execute());
  }
}

function toModels(rows: readonly { readonly record: string }[]): readonly PublishedModel[] {
  return rows.map(({ record }) => JSON.parse(record) as PublishedModel);
}
