/**
 * Fields that chat and text completions share, and the pieces of their answers: OpenAI's names and
 * limits plus vLLM's extras. What depends on the vocabulary or the context length is checked
 * later, with the model at hand.
 */
import { z } from "@hono/zod-openapi";
import { isText, type Text } from "../../../src/checkpoint/text/prompt.ts";
import {
  MAX_STOP_LENGTH,
  MAX_STOP_TOKENS,
  MAX_STOPS,
} from "../../../src/engine/request/sampling.ts";
import { responseFormatSchema, structuredFields } from "./structured.ts";

/**
 * A parameter of OpenAI's API that has no effect here: only values that ask for nothing pass, any
 * other is refused by name.
 */
export function harmless(name: string, allowed: readonly unknown[]): z.ZodOptional<z.ZodUnknown> {
  const values = [null, ...allowed];
  const texts = new Set(values.map((value) => JSON.stringify(value)));
  const hint = [...texts].join(", ");
  return z.unknown().refine((value) => texts.has(JSON.stringify(value)), {
    message: `Unsupported parameter: '${name}' is not supported by this server; ` +
      `leave it out or send ${hint}.`,
    params: { code: "unsupported_parameter" },
  }).optional().openapi({
    description: `Not supported; accepted only as ${hint}.`,
    enum: values,
  });
}

/**
 * A prompt's text. A long one comes as bytes from the thread that parsed it (`json_worker.ts`), since a
 * string of megabytes would be copied on the event loop.
 */
export const promptText = z.custom<Text>().superRefine((input, c) => {
  if (isText(input)) return;
  // as a type that does not fit: a union then tries its other branches
  c.addIssue({ code: "invalid_type", expected: "string", input, continue: false });
}).openapi({ type: "string" });

/** OpenAI's `metadata`. */
export const metadataSchema = z.record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, "at most 16 pairs");

/** `low` and `high` are left out, and named as left out (`UnknownArguments.leaveOut`). */
export const verbositySchema = z.enum(["low", "medium", "high"]).nullish().openapi({
  description: "Without effect; what is not `medium` is named in the header `lembas-ignored`, " +
    "and refused where the server is strict.",
});

/** How much a model is to reason, by OpenAI's words. */
export const effort = z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]);
export type Effort = z.output<typeof effort>;

/** One that the chat template does not read is named as left out. */
export const effortSchema = effort.nullish().openapi({
  description: "How much the model is to reason: the chat template's variable " +
    "`reasoning_effort`, and `enable_thinking`, which only `none` has false. Where the template " +
    "does not read it, the header `lembas-ignored` names it; a strict server refuses it.",
});

/** The words for a default that the model's authors may have set. */
function byModel(neutral: string): string {
  return `Default: the model's, as /v1/models/{model} says under sampling_defaults, else ${neutral}.`;
}

/** Names all keys that are none; one of a bias of 0 changes nothing, whatever it is. */
function keysAreIds(bias: Readonly<Record<string, number>>, c: z.core.$RefinementCtx): void {
  const wrong = Object.entries(bias)
    .filter(([key, value]) => value !== 0 && !/^\d{1,9}$/.test(key))
    .map(([key]) => key).slice(0, MOST_KEYS);
  if (wrong.length === 0) return;
  const keys = wrong.map((key) => JSON.stringify(key.slice(0, MOST_LENGTH))).join(", ");
  c.addIssue({
    code: "custom",
    message: `Invalid 'logit_bias': its keys must be token ids, which ${keys} ` +
      `${wrong.length === 1 ? "is" : "are"} not.`,
  });
}

/** Keys that an error names. */
const MOST_KEYS = 16;
/** Characters of each. */
const MOST_LENGTH = 64;

export const stopString = z.string().min(1).max(MAX_STOP_LENGTH);

export const obfuscationField = z.boolean().nullish().openapi({
  description:
    "Chunks are padded by a field `obfuscation` to multiples of 64 bytes, so that their " +
    "sizes on the wire do not tell tokens (default: no).",
});

export const streamOptionsSchema = z.strictObject({
  include_usage: z.boolean().nullish().openapi({
    description: "A last chunk without choices carries the usage.",
  }),
  continuous_usage_stats: z.boolean().nullish().openapi({
    description: "With `include_usage`, every chunk carries the usage so far (vLLM).",
  }),
  include_obfuscation: obfuscationField,
}).openapi("StreamOptions");

export const inlineAdapterSchema = z.strictObject({
  cores: z.string().min(1).openapi({ description: "A core file (safetensors), base64." }),
}).openapi("InlineAdapter", {
  description: "A core that travels inside the request; `model` must then be the base model.",
});

/** LoRAX's way to name an adapter. */
export const adapterIdFields = {
  adapter_id: z.string().min(1).max(4096).nullish().openapi({
    description: "An adapter instead of `model` (LoRAX): its name, or what `adapter_source` says.",
  }),
  adapter_source: z.enum(["local", "hub"]).nullish().openapi({
    description: "What `adapter_id` is where it is no name: `local`, a path below the adapters' " +
      "directory; `hub`, an id there. What is not here yet is loaded for administrators.",
  }),
} as const;
export type AdapterIdFields = Readonly<z.output<z.ZodObject<typeof adapterIdFields>>>;

/** The fields of both completion endpoints. */
export const generationFields = {
  model: z.string().min(1).nullish().openapi({
    description: "The base model, `tenant/name`, `tenant/name@version`, or an unambiguous name. " +
      "Default: the base model.",
    example: "SmolLM2-135M-Instruct",
  }),
  adapter: inlineAdapterSchema.nullish(),
  ...adapterIdFields,
  temperature: z.number().min(0).max(2).nullish().openapi({
    description: `0 = greedy. ${byModel("1")}`,
  }),
  top_p: z.number().gt(0).max(1).nullish().openapi({ description: byModel("1") }),
  n: z.int().min(1).max(128).nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptionsSchema.nullish(),
  stop: z.union([stopString, z.array(stopString).max(MAX_STOPS)]).nullish(),
  seed: z.number().refine((seed) => Number.isInteger(seed) && Math.abs(seed) <= 2 ** 63, {
    message: "Invalid 'seed': it must be an integer of at most 64 bits, signed.",
  }).nullish().openapi({ type: "integer", format: "int64" }),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: z.record(z.string(), z.number().min(-100).max(100)).superRefine(keysAreIds)
    .nullish(),
  response_format: responseFormatSchema.nullish(),
  ...structuredFields,
  user: z.string().nullish(),
  priority: z.int().nullish().openapi({ description: "Lower runs sooner (vLLM)." }),
  top_k: z.int().min(-1).nullish().openapi({
    description: `0 or -1 = off (vLLM). ${byModel("0")}`,
  }),
  min_p: z.number().min(0).max(1).nullish().openapi({ description: byModel("0") }),
  repetition_penalty: z.number().gt(0).max(10).nullish().openapi({ description: byModel("1") }),
  stop_token_ids: z.array(z.int().min(0)).max(MAX_STOP_TOKENS).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  ignore_eos: z.boolean().nullish(),
  min_tokens: z.int().min(0).nullish(),
  allowed_token_ids: z.array(z.int().min(0)).min(1).nullish().openapi({
    description: "Only these are drawn (vLLM).",
  }),
  bad_words: z.array(z.string().min(1).max(256)).max(128).nullish().openapi({
    description: "Texts that the output does not have, by their tokens (vLLM).",
  }),
  truncate_prompt_tokens: z.int().min(-1).nullish().openapi({
    description: "Keeps so many tokens of the prompt; -1 = as many as fit (vLLM).",
  }),
  truncation_side: z.enum(["left", "right"]).nullish().openapi({
    description: "Where `truncate_prompt_tokens` cuts: `left` (the default) keeps the end (vLLM).",
  }),
  skip_special_tokens: z.boolean().nullish(),
  add_special_tokens: z.boolean().nullish().openapi({
    description: "Adds the tokenizer's own special tokens to the prompt " +
      "(default: completions yes, chat no, as its template has them).",
  }),
  use_beam_search: harmless("use_beam_search", [false]),
  length_penalty: harmless("length_penalty", [1]),
  logits_processors: harmless("logits_processors", [[]]),
  service_tier: harmless("service_tier", ["auto", "default"]),
  chat_template: harmless("chat_template", []),
  documents: harmless("documents", [[]]),
  include_reasoning: harmless("include_reasoning", [true, false]),
  kv_transfer_params: harmless("kv_transfer_params", []),
  mm_processor_kwargs: harmless("mm_processor_kwargs", [{}]),
  spaces_between_special_tokens: harmless("spaces_between_special_tokens", [true, false]),
  vllm_xargs: harmless("vllm_xargs", [{}]),
  prompt_logprobs: z.int().min(0).max(20).nullish().openapi({
    description:
      "How many alternatives to report of each prompt token (vLLM); not while streaming.",
  }),
  logprob_token_ids: z.array(z.int().min(0)).max(128).nullish().openapi({
    description: "Reports the log probabilities of these tokens in place of the likeliest (vLLM).",
  }),
  return_token_ids: z.boolean().nullish().openapi({
    description: "The ids of the prompt and of each sample besides their text (vLLM).",
  }),
  return_tokens_as_token_ids: z.boolean().nullish().openapi({
    description: "Names tokens among log probabilities token_id:ID (vLLM).",
  }),
} as const;

const generationSchema = z.object(generationFields);

/** What `generate/plan.ts` reads of either request. */
export type GenerationFields = Readonly<z.output<typeof generationSchema>>;
export type InlineAdapterField = z.output<typeof inlineAdapterSchema>;

/**
 * A schema with a name, or null: `nullable()` says nothing of the null where the description only
 * refers to the name.
 */
export function orNull<T extends z.ZodType>(named: T): z.ZodUnion<[T, z.ZodNull]> {
  return z.union([named, z.null()]);
}

/** vLLM's: for each prompt token, by token id; null for the first. */
export const promptLogprobsSchema = z.array(
  z.record(
    z.string(),
    z.object({ logprob: z.number(), rank: z.int(), decoded_token: z.string() }),
  ).nullable(),
).openapi("PromptLogprobs");
export type PromptLogprobs = z.output<typeof promptLogprobsSchema>;

/** vLLM's: the ids of a sample. */
export const tokenIdsSchema = z.array(z.int()).nullish();

export const usageSchema = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
  completion_tokens_details: z.object({ reasoning_tokens: z.int() }).optional().openapi({
    description: "Where the server parts reasoning from answers (--reasoning-parser).",
  }),
}).openapi("Usage");
export type UsageBody = z.output<typeof usageSchema>;

/** vLLM's; what never came to be is left out. */
export const requestMetricsSchema = z.object({
  time_to_first_token_ms: z.number().optional(),
  generation_time_ms: z.number().optional(),
  queue_time_ms: z.number().optional(),
  mean_itl_ms: z.number().optional(),
  tokens_per_second: z.number().optional(),
}).openapi("RequestMetrics", {
  description:
    "Milliseconds in the queue, from there to the first token, from there to the last, " +
    "and between two; tokens a second without the queue (--enable-per-request-metrics).",
});
export type RequestMetricsBody = z.output<typeof requestMetricsSchema>;

export const finishReasonSchema = z.enum(["stop", "length", "abort", "error"]);

/** vLLM's addition: the stop string or token id that ended the text. */
export const stopReasonSchema = z.union([z.string(), z.int()]).nullable();

export const errorSchema = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
}).openapi("Error");

/** llama.cpp's. */
export const timingsSchema = z.object({
  cache_n: z.int(),
  prompt_n: z.int(),
  prompt_ms: z.number(),
  prompt_per_second: z.number(),
  predicted_n: z.int(),
  predicted_ms: z.number(),
  predicted_per_second: z.number(),
}).openapi("LlamaTimings", {
  description: "Tokens, milliseconds with any wait in the queue, and tokens a second.",
});
export type Timings = z.output<typeof timingsSchema>;
