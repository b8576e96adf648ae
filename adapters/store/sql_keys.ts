/** Keys in SQL, by tenant and by hash. It owns their rows; what a hash is made of it does not know. */
import { failureOf } from "./database/sql_error.ts";
import { newId } from "./ids.ts";
import type { Page, PageQuery } from "./paging.ts";
import { tell } from "./sql_changes.ts";
import { beyond, type Db, limited, noTenant, notListed, toPage, transact } from "./sql_helpers.ts";
import type { KeyRecord, KeyStore, Scope } from "./tenant_store.ts";

type NewKey = Pick<KeyRecord, "tenant" | "name" | "hint" | "scopes" | "expiresAt">;

interface KeyRow extends Omit<KeyRecord, "scopes"> {
  readonly scopes: string;
}

const COLUMNS = [
  "id",
  "tenant",
  "name",
  "hint",
  "scopes",
  "createdAt",
  "expiresAt",
  "revokedAt",
] as const;
const SECRET = "keys";
const SECRET_BYTES = 32;

export class SqlKeyStore implements KeyStore {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  async create(key: NewKey, hash: Uint8Array): Promise<KeyRecord> {
    const { tenant, name, hint, scopes, expiresAt } = key;
    const id = newId("key").replace("-", "_");
    try {
      const row = await this.#db.insertInto("keys")
        .values({
          ...{ id, tenant, name, hint, hash, scopes: JSON.stringify(scopes) },
          ...{ createdAt: Date.now(), expiresAt, revokedAt: null },
        })
        .returning(COLUMNS).executeTakeFirstOrThrow();
      await tell(this.#db, "key", { tenant, id });
      return toRecord(row);
    } catch (error) {
      if (failureOf(error) === "foreign key") throw noTenant(tenant);
      throw error;
    }
  }

  async findByHash(hash: Uint8Array): Promise<KeyRecord | undefined> {
    const row = await this.#db.selectFrom("keys").select(COLUMNS).where("hash", "=", hash)
      .executeTakeFirst();
    return row && toRecord(row);
  }

  async list(tenant: string, query: PageQuery): Promise<Page<KeyRecord>> {
    const { after, order } = query;
    let rows = this.#db.selectFrom("keys").select(COLUMNS).where("tenant", "=", tenant)
      .orderBy("seq", order);
    if (after !== undefined) {
      const from = await this.#db.selectFrom("keys").select("seq")
        .where("tenant", "=", tenant).where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toRecord);
  }

  async find(tenant: string, id: string): Promise<KeyRecord | undefined> {
    const row = await this.#db.selectFrom("keys").select(COLUMNS)
      .where("tenant", "=", tenant).where("id", "=", id).executeTakeFirst();
    return row && toRecord(row);
  }

  revoke(tenant: string, id: string): Promise<boolean> {
    return transact(this.#db, async (trx) => {
      const row = await trx.updateTable("keys").set({ revokedAt: Date.now() })
        .where("tenant", "=", tenant).where("id", "=", id).where("revokedAt", "is", null)
        .returning("id").executeTakeFirst();
      if (row === undefined) return false;
      await tell(trx, "key", { tenant, id });
      return true;
    });
  }

  async countUsable(): Promise<number> {
    const { count } = await this.#db.selectFrom("keys")
      .select(({ fn }) => fn.countAll<number>().as("count"))
      .where("revokedAt", "is", null)
      .where(({ eb, or }) => or([eb("expiresAt", "is", null), eb("expiresAt", ">", Date.now())]))
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  async secret(): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
    await this.#db.insertInto("secrets").values({ name: SECRET, bytes })
      .onConflict((conflict) => conflict.doNothing()).execute();
    const row = await this.#db.selectFrom("secrets").select("bytes").where("name", "=", SECRET)
      .executeTakeFirstOrThrow();
    return new Uint8Array(row.bytes);
  }
}

function toRecord(row: KeyRow): KeyRecord {
  return { ...row, scopes: JSON.parse(row.scopes) as readonly Scope[] };
}
