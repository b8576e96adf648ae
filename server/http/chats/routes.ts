// deno-lint-ignore-file camelcase -- names of the wire format
/** `GET /v1/chat/completions` and below it: stored chats, listed, read, changed and deleted. */
import { z } from "@hono/zod-openapi";
import { pageOf } from "../../../adapters/store/pages.ts";
import type { App, AppContext, ServerContext } from "../../context.ts";
import { get, list, post } from "../endpoint.ts";
import { chatsOf, chatText, foundChat, isChatId, noChat, textOf } from "./kept.ts";
import {
  chatDeletedSchema,
  chatListSchema,
  chatsQuerySchema,
  messageListSchema,
  messagesQuerySchema,
  storedChatSchema,
  updateChatSchema,
} from "./schema.ts";

const PATH = "/v1/chat/completions";
const ONE = `${PATH}/{completion_id}`;
/** Of a page, as OpenAI has it. */
const LISTED = 20;

const common = { tag: "completions", scopes: ["infer"] } as const;
const one = {
  ...common,
  path: ONE,
  params: z.object({ completion_id: z.string() }),
  // not batch and input_tokens, which are beside them
  patterns: { completion_id: "[^bi/][^/]*" },
} as const;

/** For a server that keeps chats. */
export function registerStoredChats(app: App, context: ServerContext): void {
  list(app, {
    ...common,
    method: "get",
    path: PATH,
    summary: "Chat completions that were made with `store`.",
    query: chatsQuerySchema,
    ok: { description: "A page of them, the first one first.", json: chatListSchema },
  }, async (c, { after, limit = LISTED, order = "asc", model, metadata = {} }) => {
    const page = await chatsOf(context, c).list({ after, limit, order, model, metadata });
    return listText(page.items, page.hasMore, `[${page.items.map(chatText).join(",")}]`);
  });
  get(app, {
    ...one,
    method: "get",
    summary: "A stored chat completion.",
    ok: { description: "The completion, without log probabilities.", json: storedChatSchema },
  }, async (c) => json(chatText(await foundChat(chatsOf(context, c), idOf(c)))));
  post(app, {
    ...one,
    method: "post",
    summary: "Changes a stored chat completion's metadata.",
    body: updateChatSchema,
    ok: { description: "The completion as it is then.", json: storedChatSchema },
  }, async (c, { metadata }) => {
    const id = idOf(c);
    const changed = isChatId(id) ? await chatsOf(context, c).update(id, metadata ?? {}) : undefined;
    return json(chatText(changed ?? noChat(id)));
  });
  get(app, {
    ...one,
    method: "delete",
    summary: "Deletes a stored chat completion.",
    ok: { description: "That it is deleted.", json: chatDeletedSchema },
  }, async (c) => {
    const id = idOf(c);
    if (!isChatId(id) || !await chatsOf(context, c).remove(id)) noChat(id);
    return c.json({ object: "chat.completion.deleted", id, deleted: true });
  });
  registerMessages(app, context);
}

function registerMessages(app: App, context: ServerContext): void {
  list(app, {
    ...one,
    method: "get",
    path: `${ONE}/messages`,
    summary: "The messages that a stored chat completion was asked with.",
    query: messagesQuerySchema,
    ok: { description: "A page of them, the first one first.", json: messageListSchema },
  }, async (c, { after, limit = LISTED, order = "asc" }) => {
    const { messages } = await foundChat(chatsOf(context, c), idOf(c));
    // a long text comes as bytes, from the thread that parses
    const { messages: all } = await c.get("bodies").parse(`{"messages":${messages}}`) as {
      readonly messages: readonly { readonly id: string }[];
    };
    const { items, hasMore } = pageOf(all, { after, limit, order });
    return listText(items, hasMore, JSON.stringify(items, textOf));
  });
}

function idOf(c: AppContext): string {
  return c.req.param("completion_id") ?? "";
}

function listText(
  items: readonly { readonly id: string }[],
  has_more: boolean,
  data: string,
): Response {
  const ids = { first_id: items[0]?.id ?? null, last_id: items.at(-1)?.id ?? null };
  const rest = JSON.stringify({ object: "list", ...ids, has_more });
  return json(`${rest.slice(0, -1)},"data":${data}}`);
}

function json(text: string): Response {
  return new Response(text, { headers: { "content-type": "application/json" } });
}
