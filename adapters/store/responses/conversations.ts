/**
 * A tenant's conversations: items in their order, to which responses add theirs. They do not expire:
 * whoever made one deletes it. Trap: they share the name of what a chat template renders, nothing else.
 */
import { type Db, LIST, transact, type Trx } from "../database/kysely.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "../pages.ts";
import { charge } from "../tenants.ts";
import { bytesOf } from "./kept_rows.ts";

export interface ConversationRecord {
  readonly id: string;
  readonly createdAt: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** `body` is JSON of the item, which has the same id in it. */
export interface ConversationItem {
  readonly id: string;
  readonly body: string;
}

/** What a conversation has all together, the first item first. */
export type WholeConversation =
  | { readonly type: "whole"; readonly items: readonly ConversationItem[] }
  | { readonly type: "gone" }
  | { readonly type: "too large"; readonly bytes: number };

const COLUMNS = ["id", "createdAt", "metadata"] as const;

/** Of one tenant. */
export class ConversationStore {
  readonly #db: Db;
  readonly #tenant: string;

  constructor(db: Db, tenant: string) {
    this.#db = db;
    this.#tenant = tenant;
  }

  /** @throws {GoneError} where the tenant is not there; {QuotaError} where it may store no more */
  async create(record: ConversationRecord, items: readonly ConversationItem[]): Promise<void> {
    const tenant = this.#tenant;
    const metadata = JSON.stringify(record.metadata);
    const bytes = bytesOf([metadata]);
    await transact(this.#db, async (trx) => {
      await charge(trx, tenant, bytes);
      await trx.insertInto("conversations").values({ ...record, tenant, bytes, metadata })
        .execute();
      await appendItems(trx, { tenant, id: record.id, items });
    });
  }

  async find(id: string): Promise<ConversationRecord | undefined> {
    const row = await this.#own().select(COLUMNS).where("id", "=", id).executeTakeFirst();
    return row && { ...row, metadata: JSON.parse(row.metadata) };
  }

  /**
   * Puts other metadata in place of a conversation's; whether it is there.
   * @throws {QuotaError} where the tenant may store no more
   */
  async update(id: string, metadata: ConversationRecord["metadata"]): Promise<boolean> {
    return await this.#change(id, async (trx, row) => {
      const text = JSON.stringify(metadata);
      const more = bytesOf([text]) - bytesOf([row.metadata]);
      await charge(trx, this.#tenant, more);
      await trx.updateTable("conversations").set({ metadata: text, bytes: row.bytes + more })
        .where("id", "=", id).execute();
      return true;
    });
  }

  /** With its items; whether it was there. */
  async remove(id: string): Promise<boolean> {
    return await this.#change(id, async (trx, { bytes }) => {
      await trx.deleteFrom("conversations").where("id", "=", id).execute();
      await charge(trx, this.#tenant, -bytes);
      return true;
    });
  }

  /** Whether it is there. @throws {QuotaError} where the tenant may store no more */
  async append(id: string, items: readonly ConversationItem[]): Promise<boolean> {
    const tenant = this.#tenant;
    return await this.#change(id, (trx) => appendItems(trx, { tenant, id, items }));
  }

  /** Whether there was such an item. */
  async removeItem(id: string, item: string): Promise<boolean> {
    return await this.#change(id, async (trx, { bytes }) => {
      const row = await trx.deleteFrom("conversationItems").where("conversation", "=", id)
        .where("id", "=", item).returning("body").executeTakeFirst();
      if (row === undefined) return false;
      const less = bytesOf([row.body]);
      await charge(trx, this.#tenant, -less);
      await trx.updateTable("conversations").set({ bytes: bytes - less }).where("id", "=", id)
        .execute();
      return true;
    });
  }

  async item(id: string, item: string): Promise<ConversationItem | undefined> {
    return await this.#items(id).where("conversationItems.id", "=", item).executeTakeFirst();
  }

  /** @throws {FieldRangeError} where `after` names no item of it */
  async items(id: string, query: PageQuery): Promise<Page<ConversationItem>> {
    const { after, order } = query;
    let rows = this.#items(id).orderBy("conversationItems.seq", order);
    if (after !== undefined) {
      const from = await this.#items(id).select("conversationItems.seq")
        .where("conversationItems.id", "=", after).executeTakeFirst();
      rows = rows.where("conversationItems.seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, (row) => row);
  }

  /** @param most bytes of all of it together */
  async whole(id: string, most: number): Promise<WholeConversation> {
    const row = await this.#own().select("bytes").where("id", "=", id).executeTakeFirst();
    if (row === undefined) return { type: "gone" };
    if (row.bytes > most) return { type: "too large", bytes: row.bytes };
    const items = await this.#items(id).orderBy("conversationItems.seq").execute();
    return { type: "whole", items };
  }

  #own() {
    return this.#db.selectFrom("conversations").where("tenant", "=", this.#tenant);
  }

  #items(id: string) {
    return this.#db.selectFrom("conversationItems")
      .innerJoin("conversations", "conversations.id", "conversationItems.conversation")
      .select(["conversationItems.id", "conversationItems.body"])
      .where("conversations.tenant", "=", this.#tenant).where("conversation", "=", id);
  }

  /** Changes what is there, with no other writer of the tenant beside it; false where it is not. */
  async #change(
    id: string,
    change: (trx: Trx, row: { bytes: number; metadata: string }) => Promise<boolean>,
  ): Promise<boolean> {
    if (await this.find(id) === undefined) return false;
    return await transact(this.#db, async (trx) => {
      // the tenant's row first, as all writers have it
      await charge(trx, this.#tenant, 0);
      const row = await trx.selectFrom("conversations").select(["bytes", "metadata"])
        .where("tenant", "=", this.#tenant).where("id", "=", id).executeTakeFirst();
      return row !== undefined && await change(trx, row);
    });
  }
}

/**
 * Adds items behind those of a conversation, in a transaction that has charged the tenant before.
 * Whether the conversation is there.
 */
export async function appendItems(
  trx: Trx,
  { tenant, id, items }: {
    readonly tenant: string;
    readonly id: string;
    readonly items: readonly ConversationItem[];
  },
): Promise<boolean> {
  const row = await trx.selectFrom("conversations").select("bytes").where("tenant", "=", tenant)
    .where("id", "=", id).executeTakeFirst();
  if (row === undefined) return false;
  const bytes = bytesOf(items.map(({ body }) => body));
  await charge(trx, tenant, bytes);
  await trx.updateTable("conversations").set({ bytes: row.bytes + bytes }).where("id", "=", id)
    .execute();
  for (let at = 0; at < items.length; at += LIST) {
    const rows = items.slice(at, at + LIST).map((item) => ({ ...item, conversation: id }));
    await trx.insertInto("conversationItems").values(rows).execute();
  }
  return true;
}
