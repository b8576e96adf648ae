/** Chat completions that are kept, where `store` asks for it, as requests reach them. */
import { isText, stringOf } from "../../../src/checkpoint/text/prompt.ts";
import type { ListedChat, StoredChat, TenantData } from "../../../adapters/store/store.ts";
import type { AppContext, ServerContext } from "../../context.ts";
import { ApiError, invalid } from "../../errors.ts";
import { samplingBody } from "../../generate/plan.ts";
import type { ChatCompletion, ChatRequest, MessageBody } from "../schema/chat.ts";
import type { StoredChatBody } from "./schema.ts";

const DAY_MS = 86_400_000;

/** Keeps the completion of a chat that was asked for with `store`. */
export type KeepChat = (completion: ChatCompletion) => Promise<void>;

/**
 * Undefined for a chat that is not to be kept. Trap: call it before the chat starts; bytes of its long
 * texts are gone then.
 * @throws {ApiError} 400 where the server keeps none; {QuotaError} where there is no room for it
 */
export async function chatKeeper(
  context: ServerContext,
  c: AppContext,
  body: ChatRequest,
  id: string,
): Promise<KeepChat | undefined> {
  if (!body.store) return undefined;
  if (context.responses === undefined) {
    throw invalid("store", "Invalid 'store': this server keeps no chats; leave it out.");
  }
  const { days } = context.responses;
  const { tenant } = c.get("principal");
  const chats = chatsOf(context, c);
  const messages = messagesText(body.messages, id);
  await context.access?.admit(tenant);
  await chats.checkRoom(messages.length);
  const asked = askedOf(context, c, body);
  return async (completion) => {
    if (!completion.choices.every(({ finish_reason }) => isWhole(finish_reason))) return;
    const createdAt = Date.now();
    const { model } = completion;
    await chats.add({
      ...{ id, model, createdAt, expiresAt: createdAt + days * DAY_MS },
      ...{ messages, metadata: body.metadata ?? {} },
      body: JSON.stringify({ ...bare(completion), ...asked }),
    });
  };
}

function isWhole(reason: ChatCompletion["choices"][number]["finish_reason"]): boolean {
  return reason !== "abort" && reason !== "error";
}

/** Without log probabilities, tokens, times and the prompt. */
function bare(
  { choices, timings: _, __verbose, ...completion }: ChatCompletion,
): ChatCompletion {
  return {
    ...completion,
    choices: choices.map((choice) => ({ ...choice, logprobs: null, token_ids: null })),
    ...{ prompt_logprobs: null, prompt_token_ids: null },
  };
}

type Asked = Omit<StoredChatBody, keyof ChatCompletion | "metadata">;

function askedOf({ model: { sampling } }: ServerContext, c: AppContext, body: ChatRequest): Asked {
  const defaults = samplingBody(sampling);
  return {
    request_id: c.get("requestId"),
    input_user: body.user ?? null,
    service_tier: "default",
    seed: body.seed ?? null,
    temperature: body.temperature ?? defaults.temperature,
    top_p: body.top_p ?? defaults.top_p,
    presence_penalty: body.presence_penalty ?? 0,
    frequency_penalty: body.frequency_penalty ?? 0,
    tools: body.tools ?? null,
    tool_choice: body.tool_choice ?? null,
    response_format: body.response_format ?? null,
  };
}

/** JSON of messages as they are listed. */
function messagesText(messages: readonly MessageBody[], id: string): string {
  const listed = messages.map((message, index) => {
    const { role, content, name, tool_calls, tool_call_id } = message;
    const reasoning = message.reasoning ?? message.reasoning_content;
    const parts = Array.isArray(content) ? content : null;
    return {
      ...{ id: `${id}-${index}`, role, name: name ?? null, refusal: null },
      ...(reasoning && { reasoning }),
      ...(tool_calls && { tool_calls }),
      ...(tool_call_id && { tool_call_id }),
      ...{ content: parts === null ? content ?? null : null, content_parts: parts },
    };
  });
  return JSON.stringify(listed, textOf);
}

/** For JSON of what may have long texts. */
export function textOf(_: string, value: unknown): unknown {
  return isText(value) ? stringOf(value) : value;
}

export function chatsOf(context: ServerContext, c: AppContext): TenantData["chats"] {
  const { responses: keeping } = context;
  if (keeping === undefined) throw new RangeError("internal: a server that keeps no chats");
  return keeping.store.forTenant(c.get("principal").tenant).chats;
}

/** @throws {ApiError} 404 */
export async function foundChat(chats: TenantData["chats"], id: string): Promise<StoredChat> {
  return (isChatId(id) ? await chats.find(id) : undefined) ?? noChat(id);
}

export function isChatId(text: string): boolean {
  return /^chatcmpl-[0-9a-f]{32}$/.test(text);
}

/** A stored chat as it is told. */
export function chatText({ body, metadata }: Pick<ListedChat, "body" | "metadata">): string {
  return `${body.slice(0, -1)},"metadata":${JSON.stringify(metadata)}}`;
}

export function noChat(id: string): never {
  throw new ApiError(404, `Chat completion with id '${id.slice(0, 80)}' not found.`, {
    param: "completion_id",
    code: "chat_completion_not_found",
  });
}
