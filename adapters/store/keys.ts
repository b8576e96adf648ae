/** Keys, by tenant and by hash: a key's text is never here, and who checks keys is the server. */
import { tell } from "./changes.ts";
import { type Db, transact } from "./database/kysely.ts";
import { failureOf } from "./database/sql_error.ts";
import { noTenant } from "./errors.ts";
import { newId } from "../../src/util/ids.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "./pages.ts";

/** What a key may be used for. */
export const SCOPES = ["infer", "train", "admin"] as const;
export type Scope = typeof SCOPES[number];

export interface KeyRecord {
  /** `key_…` */
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  /** The key's first characters, to tell keys apart. */
  readonly hint: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
}

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

export class KeyStore {
  readonly #db: Db;

  constructor(db: Db) {
    this.#db = db;
  }

  /** @throws {RangeError} where the tenant is not there */
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

  /** Revoked and expired ones too: the caller judges. */
  async findByHash(hash: Uint8Array): Promise<KeyRecord | undefined> {
    const row = await this.#db.selectFrom("keys").select(COLUMNS).where("hash", "=", hash)
      .executeTakeFirst();
    return row && toRecord(row);
  }

  /** @throws {RangeError} where `after` names no key of the tenant */
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

  /** Whether there was such a key that was not revoked. Told as a change of kind "key". */
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

  /** How many keys there are that are neither revoked nor expired, of all tenants. */
  async countUsable(): Promise<number> {
    const { count } = await this.#db.selectFrom("keys")
      .select(({ fn }) => fn.countAll<number>().as("count"))
      .where("revokedAt", "is", null)
      .where(({ eb, or }) => or([eb("expiresAt", "is", null), eb("expiresAt", ">", Date.now())]))
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  /** 32 random bytes, made once and the same for every process on the store: keys are hashed with it. */
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
