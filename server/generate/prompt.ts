// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * From messages or text to token ids: roles, content parts, the continued final message, and lengths.
 * Trap: a long text must not be encoded, or rendered, on the event loop. What cannot fit is refused by
 * its length alone, and what is long goes to the checkpoint's own thread.
 */
import {
  type Conversation,
  joinLines,
  type Prompt,
  type PromptOptions,
  type PromptRefusal,
  promptText,
  type PromptTokens,
  SHORT_TEXT,
  sizeOf,
  type TextMessage,
  textTokens,
} from "../../src/checkpoint/text/prompt.ts";
import { templateRole } from "../../src/checkpoint/text/roles.ts";
import type { ServedModel } from "../context.ts";
import type { TextCaller } from "./text_turns.ts";
import { ApiError, contextLengthExceeded, invalid } from "../http/errors.ts";
import type { MessageBody } from "../http/schema/chat.ts";

/** The template's part of a chat or tokenise request. */
export interface TemplateFields {
  readonly messages: readonly MessageBody[];
  readonly add_generation_prompt?: boolean | null | undefined;
  readonly continue_final_message?: boolean | null | undefined;
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
  readonly add_special_tokens?: boolean | null | undefined;
}

/** Names that a template gets from us, which `chat_template_kwargs` may not set. */
const RESERVED = ["messages", "tools", "add_generation_prompt", "addGenerationPrompt"];

/**
 * The conversation as token ids, by the checkpoint's template.
 * @throws {ApiError} 400 where there is no template, where it refuses the conversation, or where that
 *   cannot fit
 */
export async function encodeChat(
  model: ServedModel,
  body: TemplateFields,
  room: Omit<PromptRoom, "param">,
): Promise<readonly number[]> {
  const special = body.add_special_tokens ?? false;
  return await encodePrompt(model, toConversation(model, body), special, {
    ...room,
    param: "messages",
  });
}

function toConversation(model: ServedModel, body: TemplateFields): Conversation {
  if (model.chatTemplate === undefined) {
    throw invalid("messages", `The model '${model.id}' has no chat template: use completions.`);
  }
  const { fault } = model.chatTemplate;
  if (fault !== undefined) {
    throw invalid("messages", `The model '${model.id}' cannot chat: ${fault}. Use completions.`);
  }
  const proceed = body.continue_final_message ?? false;
  const open = body.add_generation_prompt ?? !proceed;
  if (proceed && open) {
    throw invalid(
      "continue_final_message",
      "Cannot set both 'continue_final_message' and 'add_generation_prompt' to true.",
    );
  }
  const extra = body.chat_template_kwargs ?? {};
  for (const name of RESERVED) {
    if (name in extra) {
      throw invalid("chat_template_kwargs", `'chat_template_kwargs' cannot set '${name}'.`);
    }
  }
  return {
    messages: body.messages.map(toMessage),
    options: { ...extra, addGenerationPrompt: open },
    end: proceed ? "message" : "template",
  };
}

function toMessage(body: MessageBody, index: number): TextMessage {
  const { content, name, tool_call_id } = body;
  if (content === undefined || content === null) {
    throw invalid(
      `messages[${index}].content`,
      `Missing required parameter: 'messages[${index}].content'.`,
      "missing_required_parameter",
    );
  }
  return {
    role: templateRole(body.role),
    content: Array.isArray(content) ? joinLines(content.map(({ text }) => text)) : content,
    ...(name && { name }),
    ...(tool_call_id && { tool_call_id }),
  };
}

/** @throws {ApiError} 400 naming the first id outside the vocabulary. */
export function checkTokenIds(param: string, ids: readonly number[], vocabSize: number): void {
  const at = ids.findIndex((id) => id >= vocabSize);
  if (at < 0) return;
  throw invalid(
    `${param}[${at}]`,
    `Invalid '${param}[${at}]': token id ${ids[at]} is outside the vocabulary of ${vocabSize}.`,
  );
}

/** @throws {ApiError} 400 for an empty prompt or one that leaves no room. */
export function checkLength(
  param: "messages" | "prompt",
  ids: readonly number[],
  limit: number,
  maxTokens: number | undefined,
): void {
  if (ids.length === 0) {
    throw new ApiError(400, `Invalid '${param}': the prompt has no tokens.`, {
      param,
      code: "empty_prompt",
    });
  }
  if (ids.length + (maxTokens ?? 1) > limit) {
    throw contextLengthExceeded(param, limit, ids.length, maxTokens);
  }
}

/** The room for a prompt and its completion. */
export interface PromptRoom {
  readonly param: "messages" | "prompt";
  /** Tokens of prompt and completion. */
  readonly maxContext: number;
  /** Tokens asked for; undefined = as many as fit. */
  readonly maxTokens: number | undefined;
  readonly caller: TextCaller;
}

/**
 * @throws {ApiError} 400 for a long text that has too many tokens however it is cut into them, and for
 *   what the template refuses
 */
export async function encodePrompt(
  model: ServedModel,
  prompt: Prompt,
  addSpecialTokens: boolean,
  { param, maxContext, maxTokens, caller }: PromptRoom,
): Promise<readonly number[]> {
  const options = { addSpecialTokens, room: maxContext - (maxTokens ?? 1) };
  const tokens = await read(model, prompt, options, caller);
  switch (tokens.type) {
    case "ids":
      return tokens.ids;
    case "too long":
      throw contextLengthExceeded(param, maxContext, tokens, maxTokens);
    case "refused":
      throw refused(tokens);
  }
}

async function read(
  { tokenizer, chatTemplate, thread }: ServedModel,
  prompt: Prompt,
  options: PromptOptions,
  caller: TextCaller,
): Promise<PromptTokens> {
  if (thread !== undefined && sizeOf(prompt) > SHORT_TEXT) {
    return await thread.read(caller, prompt, options);
  }
  const text = promptText(chatTemplate, prompt);
  if (typeof text !== "string") return text;
  // a template may write more than it was given
  if (thread !== undefined && text.length > SHORT_TEXT) {
    return await thread.read(caller, text, options);
  }
  return textTokens(tokenizer, text, options);
}

function refused({ fault, reason }: PromptRefusal): ApiError {
  return fault === "messages"
    ? invalid("messages", `The chat template refuses these messages: ${reason}`)
    : invalid("continue_final_message", `Cannot continue the final message: ${reason}.`);
}
