/**
 * From a text or a conversation to token ids, or why there are none. It runs on the event loop for
 * short ones, and for long ones in a thread (`text_worker.ts`): their bound alone takes tens of
 * milliseconds.
 */
import { joinBytes } from "../../util/bytes.ts";
import type { ChatMessage, ChatTemplate, Checkpoint, Tokenizer } from "../checkpoint.ts";

/** A text; a long one as its UTF-8 bytes, which go from thread to thread without a copy. */
export type Text = string | Uint8Array<ArrayBuffer>;

export interface TextMessage {
  readonly role: string;
  readonly content: Text;
  readonly [extra: string]: unknown;
}

/** Messages, to be written by the checkpoint's template. */
export interface Conversation {
  readonly messages: readonly TextMessage[];
  /** The template's, as `ChatTemplate.render` takes them. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Where it ends: as the template writes it, or with the last message, for the model to go on. */
  readonly end: "template" | "message";
}

export type Prompt = Text | Conversation;

export interface PromptOptions {
  readonly addSpecialTokens: boolean;
  /** Tokens that fit: a long text that has more, however it is cut into them, is not encoded. */
  readonly room: number;
}

export interface PromptRefusal {
  readonly type: "refused";
  /** What the template does not take, the messages or an end in the last one. */
  readonly fault: "messages" | "end";
  readonly reason: string;
}

export type PromptTokens =
  | { readonly type: "ids"; readonly ids: readonly number[] }
  | { readonly type: "too long"; readonly atLeast: number }
  | PromptRefusal;

/** Characters that are encoded at once: a few milliseconds' worth. */
export const SHORT_TEXT = 8192;

/** Characters' worth of a message beside its content. */
const MESSAGE_COST = 64;

/** Characters, as far as work goes; bytes where it has been made bytes. */
export function sizeOf(prompt: Prompt): number {
  if (isText(prompt)) return prompt.length;
  const { messages, options: { tools } } = prompt;
  return messages.reduce(
    (sum, { content, tool_calls: calls, reasoning }) =>
      sum + content.length + jsonSize(calls) + jsonSize(reasoning) + MESSAGE_COST,
    jsonSize(tools),
  );
}

function jsonSize(value: unknown): number {
  return value === undefined ? 0 : JSON.stringify(value).length;
}

/** The memory that a prompt's long texts take with them to another thread. */
export function buffersOf(prompt: Prompt): ArrayBuffer[] {
  const texts = isText(prompt) ? [prompt] : prompt.messages.map(({ content }) => content);
  return texts.flatMap((text) => text instanceof Uint8Array ? [text.buffer] : []);
}

export function isText(value: unknown): value is Text {
  return typeof value === "string" || value instanceof Uint8Array;
}

export function stringOf(text: Text): string {
  if (!(text instanceof Uint8Array)) return text;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(text);
}

/** Lines as one text. */
export function joinLines(lines: readonly Text[]): Text {
  if (lines.every((line) => typeof line === "string")) return lines.join("\n");
  const parts = lines.flatMap((line, index) => index === 0 ? [line] : ["\n", line]);
  const utf8 = new TextEncoder();
  return joinBytes(parts.map((part) => typeof part === "string" ? utf8.encode(part) : part));
}

/** The prompt's ids by a checkpoint's template and vocabulary. */
export function promptTokens(
  { tokenizer, chatTemplate }: Pick<Checkpoint, "tokenizer" | "chatTemplate">,
  prompt: Prompt,
  options: PromptOptions,
): PromptTokens {
  const text = promptText(chatTemplate, prompt);
  return typeof text === "string" ? textTokens(tokenizer, text, options) : text;
}

/** The prompt as one text. */
export function promptText(
  template: ChatTemplate | undefined,
  prompt: Prompt,
): string | PromptRefusal {
  if (isText(prompt)) return stringOf(prompt);
  const messages = prompt.messages.map((one) => ({ ...one, content: stringOf(one.content) }));
  try {
    const text = template?.render(messages, prompt.options) ?? "";
    return prompt.end === "template" ? text : cutAfterLast(text, messages);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { type: "refused", fault: "messages", reason: error.message };
  }
}

/** A text's ids. */
export function textTokens(
  tokenizer: Tokenizer,
  text: string,
  { addSpecialTokens, room }: PromptOptions,
): PromptTokens {
  const atLeast = text.length > SHORT_TEXT ? tokenizer.leastTokens(text) : 0;
  if (atLeast > room) return { type: "too long", atLeast };
  return { type: "ids", ids: tokenizer.encode(text, { addSpecialTokens }) };
}

/** Cuts what the template puts after the last message, as transformers does. */
function cutAfterLast(text: string, messages: readonly ChatMessage[]): string | PromptRefusal {
  const content = messages.at(-1)?.content ?? "";
  const whole = text.lastIndexOf(content);
  if (whole >= 0) return text.slice(0, whole + content.length);
  const trimmed = content.trim();
  const at = text.lastIndexOf(trimmed);
  if (at >= 0) return text.slice(0, at + trimmed.length);
  const reason = "the chat template does not show its content unchanged";
  return { type: "refused", fault: "end", reason };
}
