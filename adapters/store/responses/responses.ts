/**
 * A tenant's stored responses: what was asked and answered, until it expires. One that goes on from
 * another names it, and together they are a chain: going on with it keeps all of it as long as
 * its newest part. Trap: what has expired may lie here still, and is not there for anybody.
 */
import { type Db, LIST, transact } from "../database/kysely.ts";
import { charge } from "../tenants.ts";
import { appendItems, type ConversationItem } from "./conversations.ts";
import { bytesOf, checkRoom, removeRow } from "./kept_rows.ts";
import type { Chain, ChainPart, ResponseEnd, StoredResponse } from "./response_records.ts";

const COLUMNS = [
  ...["id", "previous", "createdAt", "expiresAt", "input", "output", "body"] as const,
  "runningUntil",
] as const;
/** Bytes that a running response counts beside what it has, so that how it ends has room. */
const END_BYTES = 1024;

/** What a response belongs to. */
export interface ResponseLinks {
  /** Ids of those that it goes on from; default: none. */
  readonly before?: readonly string[];
  /** What it adds to a conversation. */
  readonly said?: {
    readonly conversation: string;
    readonly items: readonly ConversationItem[];
  } | undefined;
}

/** Of one tenant. */
export class ResponseStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /**
   * Whether there is room for one more, so that it is not made in vain.
   * @throws {GoneError} where the tenant is not there; {QuotaError} where it may store no more
   */
  async checkRoom(bytes: number): Promise<void> {
    await checkRoom(this.#db, this.#tenant, bytes);
  }

  /**
   * Keeps a response, and those before it as long; and adds what it says to a conversation, where
   * that is still there.
   * @throws {GoneError} where the tenant is not there; {QuotaError} where it may store no more
   */
  async add(
    response: StoredResponse,
    { before = [], said }: ResponseLinks = {},
  ): Promise<void> {
    const tenant = this.#tenant;
    const { previous, expiresAt, input, output, body, runningUntil } = response;
    const bytes = bytesOf([input, output, body]) + (runningUntil === null ? 0 : END_BYTES);
    await transact(this.#db, async (trx) => {
      await charge(trx, tenant, bytes);
      const earlier = previous === null ? undefined : await trx.selectFrom("responses")
        .select("chainBytes").where("tenant", "=", tenant).where("id", "=", previous)
        .executeTakeFirst();
      const chainBytes = bytes + (earlier?.chainBytes ?? 0);
      await trx.insertInto("responses").values({ ...response, tenant, bytes, chainBytes })
        .execute();
      for (let at = 0; at < before.length; at += LIST) {
        await trx.updateTable("responses").set({ expiresAt })
          .where("tenant", "=", tenant).where("id", "in", before.slice(at, at + LIST))
          .where("expiresAt", "<", expiresAt).execute();
      }
      if (said !== undefined) {
        await appendItems(trx, { tenant, id: said.conversation, items: said.items });
      }
    });
  }

  /** Says something else of a response that runs. */
  async tell(id: string, body: string): Promise<void> {
    await this.#running(id).set({ body }).execute();
  }

  /**
   * Vouches for responses that run.
   * @returns the ids of those that still do
   */
  async vouch(ids: readonly string[], runningUntil: number): Promise<ReadonlySet<string>> {
    const running = new Set<string>();
    for (const id of ids) {
      const row = await this.#running(id).set({ runningUntil }).returning("id").executeTakeFirst();
      if (row !== undefined) running.add(row.id);
    }
    return running;
  }

  /**
   * Ends a response that runs; whether it did.
   * @throws {QuotaError} where the tenant may store no more
   */
  async end(
    id: string,
    { output, body }: ResponseEnd,
    said?: ResponseLinks["said"],
  ): Promise<boolean> {
    const tenant = this.#tenant;
    return await transact(this.#db, async (trx) => {
      // the tenant's row first, as all writers have it
      await charge(trx, tenant, 0);
      const row = await trx.selectFrom("responses").select(["input", "bytes", "chainBytes"])
        .where("tenant", "=", tenant).where("id", "=", id)
        .where("runningUntil", ">", Date.now()).executeTakeFirst();
      if (row === undefined) return false;
      const bytes = bytesOf([row.input, output, body]);
      await charge(trx, tenant, bytes - row.bytes);
      const chainBytes = row.chainBytes - row.bytes + bytes;
      await trx.updateTable("responses")
        .set({ output, body, bytes, chainBytes, runningUntil: null }).where("id", "=", id)
        .execute();
      if (said !== undefined) {
        await appendItems(trx, { tenant, id: said.conversation, items: said.items });
      }
      return true;
    });
  }

  async find(id: string): Promise<StoredResponse | undefined> {
    return await this.#there().select(COLUMNS).where("id", "=", id).executeTakeFirst();
  }

  /** @param most bytes of all of them together */
  async chain(id: string, most: number): Promise<Chain> {
    const last = await this.#there().select("chainBytes").where("id", "=", id).executeTakeFirst();
    if (last === undefined) return { type: "gone", id };
    if (last.chainBytes > most) return { type: "too large", bytes: last.chainBytes };
    const responses = await this.#upTo(id);
    const [first] = responses;
    if (first === undefined) return { type: "gone", id };
    if (first.previous !== null) return { type: "gone", id: first.previous };
    return { type: "whole", responses };
  }

  /** Whether there was such a response. */
  async remove(id: string): Promise<boolean> {
    return await removeRow(this.#db, "responses", { tenant: this.#tenant, id });
  }

  #there() {
    return this.#db.selectFrom("responses").where("tenant", "=", this.#tenant)
      .where("expiresAt", ">", Date.now());
  }

  #running(id: string) {
    return this.#db.updateTable("responses").where("tenant", "=", this.#tenant)
      .where("id", "=", id).where("runningUntil", ">", Date.now());
  }

  /** The response and those before it, by age, as far as they are there. */
  async #upTo(id: string): Promise<ChainPart[]> {
    const [tenant, now] = [this.#tenant, Date.now()];
    return await this.#db
      .withRecursive(
        "chain",
        (db) =>
          db.selectFrom("responses").select([
            "responses.id as link",
            "responses.previous as before",
          ])
            .where("tenant", "=", tenant).where("id", "=", id).where("expiresAt", ">", now)
            .unionAll(
              db.selectFrom("responses").innerJoin("chain", "chain.before", "responses.id")
                .select(["responses.id as link", "responses.previous as before"])
                .where("tenant", "=", tenant).where("expiresAt", ">", now),
            ),
      )
      .selectFrom("responses").innerJoin("chain", "chain.link", "responses.id")
      .select(["id", "previous", "input", "output", "runningUntil"]).orderBy("seq").execute();
  }
}
