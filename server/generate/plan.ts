/**
 * What a request's fields ask for, as the engine takes it: messages or text as token ids, and sampling
 * parameters. Trap: a long text must not be encoded, or rendered, on the event loop. What cannot fit is
 * refused by its length alone, and what is long goes to the checkpoint's own thread.
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
import type { SamplingParams } from "../../src/engine/request/request.ts";
import { DEFAULT_SAMPLING, validateSampling } from "../../src/engine/request/sampling.ts";
import type { ServedModel } from "../context.ts";
import { ApiError, contextLengthExceeded, invalid } from "../errors.ts";
import type { SamplingDefaultsBody } from "../http/schema/admin.ts";
import type { GenerationFields } from "../http/schema/common.ts";
import { type TemplateFields, toConversation } from "./conversation.ts";
import { formBeside } from "./structured.ts";
import type { TextCaller } from "./text_turns.ts";
import type { Calling } from "./tools.ts";

// ---- prompts ----

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

/** @throws {ApiError} 400 naming the first id outside the vocabulary. */
export function checkTokenIds(param: string, ids: readonly number[], vocabSize: number): void {
  const at = ids.findIndex((id) => id >= vocabSize);
  if (at < 0) return;
  throw invalid(
    `${param}[${at}]`,
    `Invalid '${param}[${at}]': token id ${
      ids[at]
    } is out of vocabulary: this model has ${vocabSize} tokens.`,
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
  /** Tokens of the prompt that are kept, -1 = as many as fit; undefined = all. */
  readonly keep?: number | null | undefined;
  /** Where the others are cut off; default: the prompt's beginning. */
  readonly cut?: "left" | "right" | null | undefined;
}

/** A text that is cut may be this many times as long as what is kept of it can be. */
const CUT_TIMES = 16;

/** What is left of a prompt that is to be cut. */
export function kept(
  ids: readonly number[],
  { keep, cut, maxContext, maxTokens }: Pick<
    PromptRoom,
    "keep" | "cut" | "maxContext" | "maxTokens"
  >,
): readonly number[] {
  if (typeof keep !== "number") return ids;
  const room = Math.max(1, maxContext - (maxTokens ?? 1));
  const most = keep === -1 ? room : Math.min(keep, room);
  return cut === "right" ? ids.slice(0, most) : ids.slice(Math.max(0, ids.length - most));
}

/**
 * @throws {ApiError} 400 for a long text that has too many tokens however it is cut into them, and for
 *   what the template refuses
 */
export async function encodePrompt(
  model: ServedModel,
  prompt: Prompt,
  addSpecialTokens: boolean,
  place: PromptRoom,
): Promise<readonly number[]> {
  const { param, maxContext, maxTokens, caller, keep } = place;
  const room = (maxContext - (maxTokens ?? 1)) * (typeof keep === "number" ? CUT_TIMES : 1);
  const options = { addSpecialTokens, room };
  const tokens = await read(model, prompt, options, caller);
  switch (tokens.type) {
    case "ids":
      return kept(tokens.ids, place);
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
  readonly model: Pick<ServedModel, "sampling" | "vocabSize" | "tokenizer">;
  /** What the text is read for; undefined = nothing. */
  readonly calling?: Pick<Calling, "grammar" | "showSpecial"> | undefined;
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
    skipSpecialTokens: !limits.calling?.showSpecial && (body.skip_special_tokens ?? true),
    logprobs: limits.logprobs ?? (body.logprob_token_ids ? 0 : undefined),
    logprobTokens: body.logprob_token_ids ?? undefined,
    grammar: formBeside(limits.calling?.grammar, body),
    ...(body.allowed_token_ids && { allowedTokens: body.allowed_token_ids }),
    ...(body.bad_words && { badWords: tokensOf(body.bad_words, limits.model.tokenizer) }),
  };
  validateSampling(params, vocabSize);
  return params;
}

/**
 * Each word as it may stand in an output: at its begin, and behind a space where that is another
 * token, as vLLM has it.
 */
function tokensOf(
  words: readonly string[],
  tokenizer: ServedModel["tokenizer"],
): readonly (readonly number[])[] {
  return words.flatMap((word) => {
    const bare = word.trimStart();
    const encoded = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
    const [alone, spaced] = [encoded(bare), encoded(` ${bare}`)];
    const other = spaced.length === alone.length && spaced[0] !== alone[0];
    return other ? [alone, spaced] : [alone];
  });
}

function toBias(bias: GenerationFields["logit_bias"]): ReadonlyMap<number, number> {
  if (!bias) return DEFAULT_SAMPLING.logitBias;
  const some = Object.entries(bias).filter(([, value]) => value !== 0);
  return new Map(some.map(([id, value]) => [Number(id), value]));
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
