/**
 * A tenant's stored responses as requests reach them: to go on from, to refer to, and to keep. Trap:
 * what is read for one request counts together, as if it had come in its body.
 */
import type { StoredResponse, TenantData } from "../../../../adapters/store/store.ts";
import type { Sealer } from "../../../access/sealing.ts";
import type { AppContext, ServerContext } from "../../../context.ts";
import { ApiError } from "../../../errors.ts";
import type { JsonBodies } from "../../json_body.ts";
import type { ResponseBody } from "../answer_schema.ts";
import {
  isConversationId,
  isResponseId,
  type Item,
  type OutputItem,
  responseOf,
} from "../items.ts";
import { noConversation, noResponse, notFound, stillRunning } from "./errors.ts";
import { type Asked, type Earlier, isLost, itemsText, lostText, rowText, saidOf } from "./rows.ts";

const DAY_MS = 86_400_000;

interface KeptParts extends Pick<TenantData, "responses" | "conversations"> {
  readonly tenant: string;
  readonly sealer: Sealer;
  readonly bodies: JsonBodies;
  /** Most bytes that a request may read. */
  readonly most: number;
  /** Days that a response is kept. */
  readonly days: number;
  /** Makes the tenant, in open mode. */
  readonly admit: () => Promise<unknown>;
}

export class KeptResponses {
  readonly #parts: KeptParts;
  /** Responses that items were looked up in. */
  readonly #read = new Map<string, readonly Item[]>();
  #left: number;

  constructor(parts: KeptParts) {
    this.#parts = parts;
    this.#left = parts.most;
  }

  /** Those of a request's tenant; undefined where the server keeps none. */
  static of(context: ServerContext, c: AppContext): KeptResponses | undefined {
    const { responses: keeping, options, access } = context;
    if (keeping === undefined) return undefined;
    const { tenant } = c.get("principal");
    const { responses, conversations } = keeping.store.forTenant(tenant);
    return new KeptResponses({
      ...{ responses, conversations, tenant, sealer: keeping.sealer },
      ...{ bodies: c.get("bodies"), most: options.maxBody, days: keeping.days },
      admit: async () => await access?.admit(tenant),
    });
  }

  /**
   * All up to a response.
   * @throws {ApiError} 400 where it is not there, or not whole; 413 where it is too large
   */
  async upTo(previous: string): Promise<Earlier> {
    const { responses, most } = this.#parts;
    const found = isResponseId(previous)
      ? await responses.chain(previous, most)
      : { type: "gone", id: previous } as const;
    switch (found.type) {
      case "gone":
        throw notFound(previous, found.id);
      case "too large":
        throw new ApiError(
          413,
          `The conversation up to '${previous}' has ${found.bytes} bytes; a request's limit is ` +
            `${most}. Begin another one with what still matters.`,
          { param: "previous_response_id", code: "request_too_large" },
        );
      case "whole": {
        const texts = found.responses.flatMap(({ input, output }) => [input, output]);
        this.#left -= texts.reduce((sum, text) => sum + text.length, 0);
        if (found.responses.some((one) => one.runningUntil !== null && !isLost(one))) {
          throw stillRunning(previous);
        }
        return {
          items: await this.#parsed(texts),
          ids: found.responses.map(({ id }) => id),
        };
      }
    }
  }

  /**
   * All of a conversation.
   * @throws {ApiError} 404 where it is not there; 413 where it is too large
   */
  async conversation(id: string): Promise<Earlier> {
    const { conversations, most } = this.#parts;
    const found = isConversationId(id)
      ? await conversations.whole(id, most)
      : { type: "gone" } as const;
    switch (found.type) {
      case "gone":
        throw noConversation(id, "conversation");
      case "too large":
        throw new ApiError(
          413,
          `The conversation '${id}' has ${found.bytes} bytes; a request's limit is ${most}. ` +
            "Delete items of it, or begin another one with what still matters.",
          { param: "conversation", code: "request_too_large" },
        );
      case "whole": {
        const texts = found.items.map(({ body }) => `[${body}]`);
        this.#left -= texts.reduce((sum, text) => sum + text.length, 0);
        return { items: await this.#parsed(texts), ids: [], conversation: id };
      }
    }
  }

  /**
   * An item of any stored response.
   * @throws {ApiError} 404 where there is none; 413 where too much would have to be read
   */
  async item(id: string, at: string): Promise<Item> {
    const response = responseOf(id);
    const items = response === undefined ? undefined : await this.#itemsOf(response, at);
    const item = items?.find((one) => one.id === id);
    if (item !== undefined) return item;
    throw new ApiError(
      404,
      `Item with id '${id.slice(0, 80)}' not found: only items of stored responses can be ` +
        "referred to. Send the item itself.",
      { param: at, code: "item_not_found" },
    );
  }

  async #itemsOf(id: string, at: string): Promise<readonly Item[] | undefined> {
    const known = this.#read.get(id);
    if (known !== undefined) return known;
    const found = await this.#parts.responses.find(id);
    if (found === undefined) return undefined;
    this.#left -= found.input.length + found.output.length;
    if (this.#left < 0) {
      throw new ApiError(
        413,
        `What '${at}' and others refer to is larger than a request's limit of ` +
          `${this.#parts.most} bytes.`,
        { param: at, code: "request_too_large" },
      );
    }
    const items = await this.#parsed([found.input, found.output]);
    this.#read.set(id, items);
    return items;
  }

  /** @throws {ApiError} 404 */
  async find(id: string): Promise<StoredResponse> {
    const found = isResponseId(id) ? await this.#parts.responses.find(id) : undefined;
    if (found === undefined) return noResponse(id);
    return isLost(found) ? { ...found, body: lostText(found.body), runningUntil: null } : found;
  }

  async inputOf({ input }: StoredResponse): Promise<readonly Item[]> {
    return await this.#parsed([input]);
  }

  async outputOf({ output }: StoredResponse): Promise<readonly OutputItem[]> {
    return await this.#parsed([output]) as readonly OutputItem[];
  }

  /** All but its output. */
  async bodyOf({ body }: StoredResponse): Promise<Omit<ResponseBody, "output">> {
    return await this.#parts.bodies.parse(body) as Omit<ResponseBody, "output">;
  }

  /** @throws {ApiError} 404 */
  async remove(id: string): Promise<void> {
    if (!isResponseId(id) || !await this.#parts.responses.remove(id)) noResponse(id);
  }

  /** A summary as only its tenant can send it back. */
  seal(summary: string): string {
    return this.#parts.sealer.seal(this.#parts.tenant, summary);
  }

  /** Undefined for what was not sealed for this tenant. */
  summaryOf(sealed: string): string | undefined {
    return this.#parts.sealer.open(this.#parts.tenant, sealed);
  }

  /** @throws {QuotaError} where there is no room for it */
  async checkRoom(bytes: number): Promise<void> {
    await this.#parts.admit();
    await this.#parts.responses.checkRoom(bytes);
  }

  /** The rows behind it, for whoever vouches for those that run. */
  get rows(): Pick<TenantData["responses"], "vouch"> {
    return this.#parts.responses;
  }

  /**
   * Keeps an answer, without its log probabilities, and adds it to its conversation.
   * @throws {QuotaError} where there is no room for it
   */
  async add(response: ResponseBody, asked: Asked): Promise<void> {
    const { responses, conversations } = this.#parts;
    const said = saidOf(response, asked);
    if (response.store) {
      const row = this.#rowOf(response, asked, null);
      await responses.add(row, { before: asked.earlier.ids, said });
    } else if (said !== undefined) await conversations.append(said.conversation, said.items);
  }

  /**
   * Keeps a response that is to run.
   * @param runningUntil Unix milliseconds
   * @throws {QuotaError} where there is no room for it
   */
  async begin(
    asked: Asked & { readonly begun: ResponseBody },
    runningUntil: number,
  ): Promise<void> {
    const row = this.#rowOf(asked.begun, asked, runningUntil);
    await this.#parts.responses.add(row, { before: asked.earlier.ids });
  }

  /** Says of a response that runs how far it is. */
  async tell(response: ResponseBody): Promise<void> {
    await this.#parts.responses.tell(response.id, rowText(response).body);
  }

  /**
   * Keeps how a response ended that ran, and adds it to its conversation; whether it did run.
   * @throws {QuotaError} where there is no room for it
   */
  async end(response: ResponseBody, asked?: Asked): Promise<boolean> {
    const said = asked && saidOf(response, asked);
    return await this.#parts.responses.end(response.id, rowText(response), said);
  }

  #rowOf(response: ResponseBody, asked: Asked, runningUntil: number | null): StoredResponse {
    const createdAt = Date.now();
    return {
      ...{ id: response.id, previous: response.previous_response_id, createdAt, runningUntil },
      expiresAt: createdAt + this.#parts.days * DAY_MS,
      ...{ input: itemsText(asked.given), ...rowText(response) },
    };
  }

  /** Lists of items as one. */
  async #parsed(lists: readonly string[]): Promise<readonly Item[]> {
    const inner = lists.map((list) => list.slice(1, -1)).filter((text) => text !== "");
    const value = await this.#parts.bodies.parse(`{"input":[${inner.join(",")}]}`);
    return (value as { readonly input: readonly Item[] }).input;
  }
}
