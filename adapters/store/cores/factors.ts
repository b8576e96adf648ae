/** Factor sets by digest; a damaged one is set aside until it is added again. */
import { tell } from "../changes.ts";
import { readContent, removeContents, writeContent } from "../contents.ts";
import { type Db, transact } from "../database/kysely.ts";
import { DamagedError } from "../errors.ts";
import type { StoreLog } from "../log.ts";

/** A factor set as lists show it. */
export interface FactorRecord {
  readonly digest: string;
  readonly bytes: number;
  readonly createdAt: number;
}

export class FactorStore {
  readonly #db: Db;
  readonly #log: StoreLog;

  constructor(db: Db, log: StoreLog) {
    this.#db = db;
    this.#log = log;
  }

  /** Keeps a factor file; the same digest again changes nothing. */
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

  /** Undefined where there is none, or it is damaged (then it is quarantined and logged). */
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

  /** Oldest first. */
  async list(): Promise<readonly FactorRecord[]> {
    return await this.#db.selectFrom("factorSets")
      .innerJoin("contents", "contents.id", "factorSets.content")
      .select(["digest", "bytes", "createdAt"]).where("state", "=", "stored").orderBy("seq")
      .execute();
  }
}
