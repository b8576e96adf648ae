/**
 * Texts as tokens without holding up the event loop: what cannot fit is refused by its length alone,
 * and what is long is encoded, and rendered, in the checkpoint's own thread. It knows no message.
 */
import type { ChatMessage, ChatTemplate } from "../../src/checkpoint/checkpoint.ts";
import type { ServedModel } from "../context.ts";
import { contextLengthExceeded } from "../http/errors.ts";
import type { TextCaller } from "./text_turns.ts";

/** Characters that are encoded at once: a few milliseconds' worth. */
const SHORT = 8192;

/** Characters' worth of a message beside its content. */
const MESSAGE_COST = 64;

/** What a text is to fit into. */
export interface TextRoom {
  readonly param: "messages" | "prompt";
  /** Tokens of prompt and completion. */
  readonly maxContext: number;
  /** Tokens asked for; undefined = as many as fit. */
  readonly maxTokens: number | undefined;
  readonly caller: TextCaller;
}

/** @throws {ApiError} 400 for a text that has too many tokens however it is cut into them */
export async function encodeText(
  { tokenizer, thread }: ServedModel,
  text: string,
  addSpecialTokens: boolean,
  { param, maxContext, maxTokens, caller }: TextRoom,
): Promise<readonly number[]> {
  if (text.length <= SHORT) return tokenizer.encode(text, { addSpecialTokens });
  const atLeast = tokenizer.leastTokens(text);
  if (atLeast + (maxTokens ?? 1) > maxContext) {
    throw contextLengthExceeded(param, maxContext, { atLeast }, maxTokens);
  }
  if (thread === undefined) return tokenizer.encode(text, { addSpecialTokens });
  return await thread.encode(caller, text, { addSpecialTokens });
}

/** A conversation as its template writes it. @throws {TypeError} where the template refuses it */
export async function renderText(
  template: ChatTemplate,
  thread: ServedModel["thread"],
  messages: readonly ChatMessage[],
  options: Readonly<Record<string, unknown>>,
  caller: TextCaller,
): Promise<string> {
  const size = messages.reduce((sum, { content }) => sum + content.length + MESSAGE_COST, 0);
  if (thread === undefined || size <= SHORT) return template.render(messages, options);
  return await thread.render(caller, messages, options);
}
