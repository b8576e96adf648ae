/** Factor sets in SQL, by digest. It owns their rows, and what becomes of a damaged one. */
import type { FactorRecord, FactorStore } from "./core_store.ts";
import { readContent, removeContents, writeContent } from "./contents.ts";
import { DamagedError } from "./damaged_error.ts";
import type { StoreLog } from "./log.ts";
import { tell } from "./sql_changes.ts";
import { type Db, transact } from "./sql_helpers.ts";

export class SqlFactorStore implements FactorStore {
  readonly #db: Db;
  readonly #log: StoreLog;

  constructor(db: Db, log: StoreLog) {
    this.#db = db;
    this.#log = log;
  }

  async add(digest: string, file: Uint8Array): Promise<void> {
    await transact(this.#db, async (trx) => {
      const row = await trx.selectFrom("factor_sets").select(["state", "content"])
        .where("digest", "=", digest).executeTakeFirst();
      if (row?.state === "stored") return;
      const { id: content } = await writeContent(trx, file);
      const values = { state: "stored", content };
      await trx.insertInto("factor_sets").values({ digest, created_at: Date.now(), ...values })
        .onConflict((conflict) => conflict.column("digest").doUpdateSet(values)).execute();
      if (row !== undefined) await removeContents(trx, [row.content]);
      await tell(trx, "factors", { id: digest });
    });
  }

  async get(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const row = await this.#db.selectFrom("factor_sets").select("content")
      .where("digest", "=", digest).where("state", "=", "stored").executeTakeFirst();
    if (row === undefined) return undefined;
    try {
      return await readContent(this.#db, row.content);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      await this.#db.updateTable("factor_sets").set({ state: "quarantined" })
        .where("digest", "=", digest).execute();
      this.#log.warning(`quarantined factor set ${digest}: ${error.message}`);
      return undefined;
    }
  }

  async list(): Promise<readonly FactorRecord[]> {
    const rows = await this.#db.selectFrom("factor_sets")
      .innerJoin("contents", "contents.id", "factor_sets.content")
      .select(["digest", "bytes", "created_at"]).where("state", "=", "stored").orderBy("seq")
      .execute();
    return rows.map(({ created_at, ...row }) => ({ ...row, createdAt: created_at }));
  }
}
