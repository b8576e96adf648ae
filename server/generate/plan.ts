// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * What a request's fields ask for, as the engine takes it: messages or text as token ids, and sampling
 * parameters. Trap: a long text must not be encoded, or rendered, on the event loop. What cannot fit is
 * refused by its length alone, and what is long goes to the checkpoint's own thread.
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
import type { SamplingParams } from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING, validateSampling } from "../../src/engine/request/sampling.ts";
import type { Grammar } from "../../src/grammar/pool.ts";
import type { ServedModel } from "../context.ts";
import { ApiError, contextLengthExceeded, invalid } from "../errors.ts";
import type { SamplingDefaultsBody } from "../http/schema/admin.ts";
import type { MessageBody } from "../http/schema/chat.ts";
import type { GenerationFields } from "../http/schema/common.ts";
import type { TextCaller } from "./text_turns.ts";

// ---- prompts ----

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

/** @throws {ApiError} 400: vLLM tells of a prompt in whole answers alone */
export function refuseStreamedPrompt(body: GenerationFields): void {
  if (!body.stream || typeof body.prompt_logprobs !== "number") return;
  throw invalid("prompt_logprobs", "'prompt_logprobs' is only allowed when 'stream' is not true.");
}

// ---- sampling ----

/** What the two endpoints call by different names. */
export interface SamplingLimits {
  readonly maxTokens: number | undefined;
  /** How many alternatives to report; undefined = no log probabilities. */
  readonly logprobs: number | undefined;
  /** What holds where the request says nothing, and the model's vocabulary. */
  readonly model: Pick<ServedModel, "sampling" | "vocabSize">;
}

/**
 * The sampling parameters of a request; where it says nothing, the model's defaults hold. The schema
 * checks ranges that need no model, the engine those that need the vocabulary.
 * @throws {FieldError | FieldRangeError} of a field that cannot be as it is.
 */
export function toSampling(body: GenerationFields, limits: SamplingLimits): SamplingParams {
  const { sampling, vocabSize } = limits.model;
  const defaults = { ...DEFAULT_SAMPLING, ...sampling };
  const params: SamplingParams = {
    temperature: body.temperature ?? defaults.temperature,
    topP: body.top_p ?? defaults.topP,
    topK: body.top_k ?? defaults.topK,
    minP: body.min_p ?? defaults.minP,
    presencePenalty: body.presence_penalty ?? DEFAULT_SAMPLING.presencePenalty,
    frequencyPenalty: body.frequency_penalty ?? DEFAULT_SAMPLING.frequencyPenalty,
    repetitionPenalty: body.repetition_penalty ?? defaults.repetitionPenalty,
    logitBias: toBias(body.logit_bias),
    seed: body.seed ?? undefined,
    maxTokens: limits.maxTokens,
    minTokens: body.min_tokens ?? DEFAULT_SAMPLING.minTokens,
    stop: typeof body.stop === "string" ? [body.stop] : body.stop ?? [],
    stopTokenIds: body.stop_token_ids ?? [],
    includeStopInOutput: body.include_stop_str_in_output ?? false,
    ignoreEos: body.ignore_eos ?? false,
    skipSpecialTokens: body.skip_special_tokens ?? true,
    logprobs: limits.logprobs ?? (body.logprob_token_ids ? 0 : undefined),
    logprobTokens: body.logprob_token_ids ?? undefined,
    grammar: toGrammar(body.response_format),
  };
  validateSampling(params, vocabSize);
  return params;
}

function toBias(bias: GenerationFields["logit_bias"]): ReadonlyMap<number, number> {
  if (!bias) return DEFAULT_SAMPLING.logitBias;
  return new Map(Object.entries(bias).map(([id, value]) => [Number(id), value]));
}

function toGrammar(format: GenerationFields["response_format"]): Grammar | undefined {
  switch (format?.type) {
    case "json_object":
      return { type: "json" };
    case "json_schema": {
      const { schema, strict } = format.json_schema;
      return { type: "json_schema", schema, strict: strict ?? false };
    }
    default:
      return undefined;
  }
}

/** The defaults as the API spells them: every field that has one, the neutral ones too. */
export function samplingBody(sampling: ServedModel["sampling"]): SamplingDefaultsBody {
  const { temperature, topP, topK, minP, repetitionPenalty } = { ...DEFAULT_SAMPLING, ...sampling };
  return {
    temperature,
    top_p: topP,
    top_k: topK,
    min_p: minP,
    repetition_penalty: repetitionPenalty,
    max_tokens: sampling.maxTokens ?? null,
  };
}

/** For the log: `temperature 0.2, top_p 0.9, top_k 0, …`. */
export function describeSampling(sampling: ServedModel["sampling"]): string {
  return Object.entries(samplingBody(sampling))
    .map(([name, value]) => `${name} ${value ?? "unbounded"}`).join(", ");
}
