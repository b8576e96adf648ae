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
      const row = await trx.selectFrom("factorSets").select(["state", "content"])
        .where("digest", "=", digest).executeTakeFirst();
      if (row?.state === "stored") return;
      const { id: content } = await writeContent(trx, file);
      const values = { state: "stored", content };
      await trx.insertInto("factorSets").values({ digest, createdAt: Date.now(), ...values })
        .onConflict((conflict) => conflict.column("digest").doUpdateSet(values)).execute();
      if (row !== undefined) await removeContents(trx, [row.content]);
      await tell(trx, "factors", { id: digest });
    });
  }

  async get(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const row = await this.#db.selectFrom("factorSets").select("content")
      .where("digest", "=", digest).where("state", "=", "stored").executeTakeFirst();
    if (row === undefined) return undefined;
    try {
      return await readContent(this.#db, row.content);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      await this.#db.updateTable("factorSets").set({ state: "quarantined" })
        .where("digest", "=", digest).execute();
      this.#log.warning(`quarantined factor set ${digest}: ${error.message}`);
      return undefined;
    }
  }

  async list(): Promise<readonly FactorRecord[]> {
    return await this.#db.selectFrom("factorSets")
      .innerJoin("contents", "contents.id", "factorSets.content")
      .select(["digest", "bytes", "createdAt"]).where("state", "=", "stored").orderBy("seq")
      .execute();
  }
}
