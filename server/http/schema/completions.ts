/** The request and the answers of `/v1/completions`. */
import { z } from "@hono/zod-openapi";
import {
  finishReasonSchema,
  generationFields,
  harmless,
  orNull,
  promptLogprobsSchema,
  promptText,
  requestMetricsSchema,
  stopReasonSchema,
  tokenIdsSchema,
  usageSchema,
} from "./common.ts";

const tokenIds = z.array(z.int().min(0)).min(1);

export const completionRequestSchema = z.object({
  ...generationFields,
  prompt: z.union([
    promptText,
    tokenIds,
    z.array(promptText).min(1).max(128),
    z.array(tokenIds).min(1).max(128),
  ]),
  max_tokens: z.int().min(0).nullish().openapi({
    description: "Default 16. The model's own bound (sampling_defaults.max_tokens of " +
      "/v1/models/{model}) holds where it is lower.",
  }),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  best_of: z.int().min(0).nullish().openapi({
    description: "Accepted only where it equals n; 0 is as if it were left out.",
  }),
  suffix: harmless("suffix", [""]),
}).openapi("CompletionRequest");
export type CompletionRequest = Readonly<z.output<typeof completionRequestSchema>>;

export const completionLogprobsSchema = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.int()),
}).openapi("CompletionLogprobs");
export type CompletionLogprobs = z.output<typeof completionLogprobsSchema>;

const choiceFields = {
  index: z.int(),
  text: z.string(),
  logprobs: completionLogprobsSchema.nullable(),
  token_ids: tokenIdsSchema,
  prompt_token_ids: tokenIdsSchema,
} as const;
const completionFields = {
  id: z.string(),
  object: z.literal("text_completion"),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
} as const;

export const completionSchema = z.object({
  ...completionFields,
  choices: z.array(z.object({
    ...choiceFields,
    finish_reason: finishReasonSchema,
    stop_reason: stopReasonSchema,
    prompt_logprobs: orNull(promptLogprobsSchema).optional(),
  })),
  usage: usageSchema,
  metrics: requestMetricsSchema.optional(),
}).openapi("Completion");
export type Completion = z.output<typeof completionSchema>;

export const completionChunkSchema = z.object({
  ...completionFields,
  choices: z.array(z.object({
    ...choiceFields,
    finish_reason: finishReasonSchema.nullable(),
    stop_reason: stopReasonSchema.optional(),
  })),
  usage: orNull(usageSchema).optional(),
  metrics: requestMetricsSchema.optional(),
  obfuscation: z.string().optional(),
}).openapi("CompletionChunk");
