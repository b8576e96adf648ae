// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * OpenAI's `/v1/conversations`: items in their order, which responses go on with and add to. They stay
 * until they are deleted.
 */
import { z } from "@hono/zod-openapi";
import type { ConversationRecord, TenantData } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { ApiError } from "../../errors.ts";
import { completionId } from "../../generate/answer.ts";
import { get, list, post } from "../endpoint.ts";
import { itemListSchema, itemsQuerySchema } from "../responses/answer_schema.ts";
import { readInput } from "../responses/input.ts";
import { type InputItem, isConversationId, itemSchema, responseOf } from "../responses/items.ts";
import { noConversation } from "../responses/stored/errors.ts";
import { KeptResponses } from "../responses/stored/kept.ts";
import { itemsText } from "../responses/stored/rows.ts";
import {
  addItemsSchema,
  conversationDeletedSchema,
  conversationSchema,
  createConversationSchema,
  itemQuerySchema,
  updateConversationSchema,
} from "./schema.ts";

const PATH = "/v1/conversations";
const ONE = `${PATH}/{conversation_id}`;
const ITEMS = `${ONE}/items`;
/** Items of a page, as OpenAI has it. */
const LISTED = 20;

const common = { tag: "conversations", scopes: ["infer"] } as const;
const one = { ...common, path: ONE, params: z.object({ conversation_id: z.string() }) } as const;

/** For a server that keeps responses. */
export function registerConversations(app: App, context: ServerContext): void {
  post(app, {
    ...common,
    method: "post",
    path: PATH,
    summary: "Begins a conversation.",
    body: createConversationSchema,
    lenient: true,
    ok: { description: "The conversation.", json: conversationSchema },
  }, async (c, { items, metadata }) => {
    const added = await readGiven(context, c, items ?? []);
    const id = `conv_${crypto.randomUUID().replaceAll("-", "")}`;
    const made = { id, createdAt: Date.now(), metadata: metadata ?? {} };
    await context.access?.admit(c.get("principal").tenant);
    await conversationsOf(context, c).create(made, added);
    return c.json(conversationBody(made));
  });
  get(app, {
    ...one,
    method: "get",
    summary: "A conversation, without its items.",
    ok: { description: "The conversation.", json: conversationSchema },
  }, async (c) => c.json(conversationBody(await find(context, c))));
  post(app, {
    ...one,
    method: "post",
    summary: "Changes a conversation's metadata.",
    body: updateConversationSchema,
    lenient: true,
    ok: { description: "The conversation as it is then.", json: conversationSchema },
  }, async (c, { metadata: given }) => {
    const found = await find(context, c);
    const metadata = given ?? {};
    const changed = await conversationsOf(context, c).update(found.id, metadata);
    if (!changed) throw notFound(c);
    return c.json(conversationBody({ ...found, metadata }));
  });
  get(app, {
    ...one,
    method: "delete",
    summary: "Deletes a conversation with its items; responses that were kept stay.",
    ok: { description: "That it is deleted.", json: conversationDeletedSchema },
  }, async (c) => {
    const { id } = await find(context, c);
    if (!await conversationsOf(context, c).remove(id)) throw notFound(c);
    return c.json({ id, object: "conversation.deleted", deleted: true });
  });
  registerItems(app, context);
  registerItem(app, context);
}

function registerItems(app: App, context: ServerContext): void {
  post(app, {
    ...one,
    method: "post",
    path: ITEMS,
    summary: "Adds items behind those of a conversation.",
    body: addItemsSchema,
    lenient: true,
    ok: { description: "The items that were added.", json: itemListSchema },
  }, async (c, { items }) => {
    const { id } = await find(context, c);
    const added = await readGiven(context, c, items);
    if (!await conversationsOf(context, c).append(id, added)) throw notFound(c);
    return listText(added, false);
  });
  list(app, {
    ...one,
    method: "get",
    path: ITEMS,
    summary: "The items of a conversation.",
    query: itemsQuerySchema,
    ok: { description: "A page of items, the last one first.", json: itemListSchema },
  }, async (c, { after, limit = LISTED, order = "desc" }) => {
    const { id } = await find(context, c);
    const page = await conversationsOf(context, c).items(id, { after, limit, order });
    return listText(page.items, page.hasMore);
  });
}

function registerItem(app: App, context: ServerContext): void {
  const item = {
    ...common,
    path: `${ITEMS}/{item_id}`,
    params: z.object({ conversation_id: z.string(), item_id: z.string() }),
  } as const;
  list(app, {
    ...item,
    method: "get",
    summary: "An item of a conversation.",
    query: itemQuerySchema,
    ok: { description: "The item.", json: itemSchema },
  }, async (c) => {
    const { id } = await find(context, c);
    const item = itemOf(c);
    const found = await conversationsOf(context, c).item(id, item);
    return json(found?.body ?? noItem(item));
  });
  get(app, {
    ...item,
    method: "delete",
    summary: "Deletes an item of a conversation.",
    ok: { description: "The conversation.", json: conversationSchema },
  }, async (c) => {
    const found = await find(context, c);
    const item = itemOf(c);
    if (!await conversationsOf(context, c).removeItem(found.id, item)) noItem(item);
    return c.json(conversationBody(found));
  });
}

function conversationsOf(context: ServerContext, c: AppContext): TenantData["conversations"] {
  const { responses: keeping } = context;
  if (keeping === undefined) throw new RangeError("internal: a server that keeps no conversations");
  return keeping.store.forTenant(c.get("principal").tenant).conversations;
}

/** Items of a request as they are kept. */
async function readGiven(context: ServerContext, c: AppContext, items: readonly InputItem[]) {
  const kept = KeptResponses.of(context, c);
  const placed = await readInput([...items], completionId("resp_"), async (id, at) => {
    if (kept === undefined) throw new RangeError("internal: a server that keeps no responses");
    return await kept.item(id, at.replace("input", "items"));
  });
  return placed.map(({ item }) => ({ id: item.id, body: itemsText(item) }));
}

async function find(context: ServerContext, c: AppContext): Promise<ConversationRecord> {
  const id = idOf(c);
  const found = isConversationId(id) ? await conversationsOf(context, c).find(id) : undefined;
  if (found === undefined) throw notFound(c);
  return found;
}

function idOf(c: AppContext): string {
  return c.req.param("conversation_id") ?? "";
}

/** @throws {ApiError} 404 for what is no id of an item */
function itemOf(c: AppContext): string {
  const id = c.req.param("item_id") ?? "";
  return responseOf(id) === undefined ? noItem(id) : id;
}

function notFound(c: AppContext): ApiError {
  return noConversation(idOf(c), "conversation_id");
}

function noItem(id: string): never {
  throw new ApiError(404, `Item with id '${id.slice(0, 80)}' not found in this conversation.`, {
    param: "item_id",
    code: "item_not_found",
  });
}

function conversationBody({ id, createdAt, metadata }: ConversationRecord) {
  return {
    ...{ id, object: "conversation" as const },
    ...{ created_at: unixSeconds(createdAt), metadata },
  };
}

function listText(
  items: readonly { readonly id: string; readonly body: string }[],
  has_more: boolean,
): Response {
  const ids = { first_id: items[0]?.id ?? null, last_id: items.at(-1)?.id ?? null };
  const rest = JSON.stringify({ object: "list", ...ids, has_more });
  return json(`${rest.slice(0, -1)},"data":[${items.map(({ body }) => body).join(",")}]}`);
}

function json(text: string): Response {
  return new Response(text, { headers: { "content-type": "application/json" } });
}
