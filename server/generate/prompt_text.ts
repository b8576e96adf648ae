/**
 * Prompts as tokens without holding up the event loop: what is long is rendered, measured and encoded in
 * the checkpoint's own thread, and what becomes of it is told as OpenAI's API does.
 */
import {
  type Prompt,
  type PromptOptions,
  type PromptRefusal,
  promptText,
  type PromptTokens,
  SHORT_TEXT,
  sizeOf,
  textTokens,
} from "../../src/checkpoint/text/prompt.ts";
import type { ServedModel } from "../context.ts";
import { type ApiError, contextLengthExceeded, invalid } from "../http/errors.ts";
import type { TextCaller } from "./text_turns.ts";

/** What a prompt is to fit into. */
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
