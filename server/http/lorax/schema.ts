/** The requests and answers of LoRAX's `/generate`, which are text-generation-inference's. */
import { z } from "@hono/zod-openapi";
import { MAX_STOPS } from "../../../src/engine/request/sampling.ts";
import {
  adapterIdFields,
  generationFields,
  harmless,
  orNull,
  promptText,
  stopString,
} from "../schema/common.ts";

const parameter = (name: string, allowed: readonly unknown[]) =>
  harmless(`parameters.${name}`, allowed);

const parametersSchema = z.object({
  ...adapterIdFields,
  max_new_tokens: z.int().min(1).nullish().openapi({
    description: "Default: as many as fit the context.",
  }),
  do_sample: z.boolean().nullish().openapi({
    description: "Whether tokens are drawn; else the likeliest is taken, unless temperature, " +
      "top_k or top_p ask for more (default: false).",
  }),
  temperature: generationFields.temperature,
  top_k: generationFields.top_k,
  top_p: generationFields.top_p,
  repetition_penalty: generationFields.repetition_penalty,
  frequency_penalty: generationFields.frequency_penalty,
  seed: z.int().min(0).nullish(),
  stop: z.array(stopString).max(MAX_STOPS).nullish(),
  ignore_eos_token: z.boolean().nullish(),
  truncate: z.int().min(1).nullish().openapi({ description: "The prompt's last tokens are kept." }),
  return_full_text: z.boolean().nullish().openapi({ description: "The prompt before the text." }),
  details: z.boolean().nullish().openapi({
    description: "Tokens, and how it ended (default: no).",
  }),
  response_format: generationFields.response_format,
  adapter_parameters: parameter("adapter_parameters", []),
  api_token: z.string().nullish().openapi({ description: "Accepted and not used." }),
  best_of: parameter("best_of", [1]),
  decoder_input_details: parameter("decoder_input_details", [false]),
  return_k_alternatives: parameter("return_k_alternatives", [0]),
  top_n_tokens: parameter("top_n_tokens", [0]),
  typical_p: parameter("typical_p", [1]),
  watermark: parameter("watermark", [false]),
}).openapi("LoraxParameters");

export const loraxRequestSchema = z.object({
  inputs: promptText,
  parameters: parametersSchema.nullish(),
  stream: z.boolean().nullish().openapi({ description: "Of `/generate` alone." }),
}).openapi("LoraxRequest");
export type LoraxRequest = Readonly<z.output<typeof loraxRequestSchema>>;
export type LoraxParameters = Readonly<z.output<typeof parametersSchema>>;

const tokenSchema = z.object({
  id: z.int(),
  text: z.string(),
  logprob: z.number(),
  special: z.boolean(),
}).openapi("LoraxToken");
export type LoraxToken = z.output<typeof tokenSchema>;

const endSchema = z.object({
  finish_reason: z.enum(["length", "eos_token", "stop_sequence"]),
  prompt_tokens: z.int(),
  generated_tokens: z.int(),
  seed: z.int().nullable(),
}).openapi("LoraxEnd");
export type LoraxEnd = z.output<typeof endSchema>;

export const loraxAnswerSchema = z.object({
  generated_text: z.string(),
  details: endSchema.extend({
    prefill: z.array(tokenSchema).openapi({ description: "Always empty." }),
    tokens: z.array(tokenSchema),
  }).optional(),
}).openapi("LoraxAnswer");
export type LoraxAnswer = z.output<typeof loraxAnswerSchema>;

export const loraxTokenEventSchema = z.object({
  token: tokenSchema,
  generated_text: z.string().nullable().openapi({ description: "With the last token." }),
  details: orNull(endSchema),
}).openapi("LoraxTokenEvent");
export type LoraxTokenEvent = z.output<typeof loraxTokenEventSchema>;

const failedEventSchema = z.object({
  error: z.string(),
  error_type: z.string(),
}).openapi("LoraxFailedEvent", { description: "The last one of a stream that failed." });
export type LoraxFailedEvent = z.output<typeof failedEventSchema>;

export const loraxEventSchema = z.union([loraxTokenEventSchema, failedEventSchema])
  .openapi("LoraxEvent");
