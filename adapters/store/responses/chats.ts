/**
 * A tenant's stored chat completions, until they expire. Trap: what has expired may lie here still, and
 * is not there for anybody.
 */
import { sql } from "kysely";
import { type Db, transact } from "../database/kysely.ts";
import { beyond, limited, notListed, type Page, type PageQuery, toPage } from "../pages.ts";
import { charge } from "../tenants.ts";
import { bytesOf, checkRoom, removeRow } from "./kept_rows.ts";

export type ChatMetadata = Readonly<Record<string, string>>;

/** What is listed of a chat. */
export interface ListedChat {
  readonly id: string;
  /** As it was asked for. */
  readonly model: string;
  readonly createdAt: number;
  /** From then on it is not there any more. */
  readonly expiresAt: number;
  readonly metadata: ChatMetadata;
  /** JSON of the completion, an object without its metadata. */
  readonly body: string;
}

export interface StoredChat extends ListedChat {
  /** JSON of the messages that it was asked with. */
  readonly messages: string;
}

export interface ChatQuery extends PageQuery {
  readonly model: string | undefined;
  /** Chats that have all of these pairs. */
  readonly metadata: ChatMetadata;
}

const LISTED = ["id", "model", "createdAt", "expiresAt", "metadata", "body"] as const;

/** Of one tenant. */
export class ChatStore {
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

  /** @throws {GoneError} where the tenant is not there; {QuotaError} where it may store no more */
  async add(chat: StoredChat): Promise<void> {
    const tenant = this.#tenant;
    const metadata = JSON.stringify(chat.metadata);
    const bytes = bytesOf([metadata, chat.messages, chat.body]);
    await transact(this.#db, async (trx) => {
      await charge(trx, tenant, bytes);
      await trx.insertInto("chats").values({ ...chat, tenant, bytes, metadata }).execute();
    });
  }

  async find(id: string): Promise<StoredChat | undefined> {
    const row = await this.#there().select([...LISTED, "messages"]).where("id", "=", id)
      .executeTakeFirst();
    return row && { ...row, ...toListed(row) };
  }

  /** @throws {FieldRangeError} where `after` names no chat */
  async list(query: ChatQuery): Promise<Page<ListedChat>> {
    const { after, order, model } = query;
    let rows = this.#there().select(LISTED).orderBy("seq", order);
    if (model !== undefined) rows = rows.where("model", "=", model);
    for (const pair of Object.entries(query.metadata)) rows = rows.where(hasPair(pair));
    if (after !== undefined) {
      const from = await this.#there().select("seq").where("id", "=", after).executeTakeFirst();
      rows = rows.where("seq", beyond(order), from?.seq ?? notListed(after));
    }
    return toPage(await limited(rows, query).execute(), query, toListed);
  }

  /**
   * Puts other metadata in place of a chat's; undefined where there is no such chat.
   * @throws {QuotaError} where the tenant may store no more
   */
  async update(id: string, metadata: ChatMetadata): Promise<ListedChat | undefined> {
    if (await this.find(id) === undefined) return undefined;
    const text = JSON.stringify(metadata);
    return await transact(this.#db, async (trx) => {
      // the tenant's row first, as all writers have it
      await charge(trx, this.#tenant, 0);
      const row = await trx.selectFrom("chats").select([...LISTED, "bytes"])
        .where("tenant", "=", this.#tenant).where("id", "=", id).executeTakeFirst();
      if (row === undefined) return undefined;
      const more = bytesOf([text]) - bytesOf([row.metadata]);
      await charge(trx, this.#tenant, more);
      await trx.updateTable("chats").set({ metadata: text, bytes: row.bytes + more })
        .where("id", "=", id).execute();
      return toListed({ ...row, metadata: text });
    });
  }

  /** Whether there was such a chat. */
  async remove(id: string): Promise<boolean> {
    return await removeRow(this.#db, "chats", { tenant: this.#tenant, id });
  }

  #there() {
    return this.#db.selectFrom("chats").where("tenant", "=", this.#tenant)
      .where("expiresAt", ">", Date.now());
  }
}

function toListed(
  { id, model, createdAt, expiresAt, metadata, body }:
    & Omit<ListedChat, "metadata">
    & { readonly metadata: string },
): ListedChat {
  return { id, model, createdAt, expiresAt, metadata: JSON.parse(metadata), body };
}

/**
 * Whether metadata has a pair, on either database: its JSON is another text without `"key":"value"`.
 * A string inside of it cannot look like that, since its quotes are escaped.
 */
function hasPair([key, value]: readonly [string, string]) {
  const pair = `${JSON.stringify(key)}:${JSON.stringify(value)}`;
  return sql<boolean>`replace(metadata, ${pair}, '') <> metadata`;
}
