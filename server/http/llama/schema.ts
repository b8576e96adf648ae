/** The requests and answers of llama.cpp's own `/completion`, beside OpenAI's. */
import { z } from "@hono/zod-openapi";
import { messageSchema, templateFields } from "../schema/chat.ts";
import {
  generationFields,
  harmless,
  promptText,
  stopString,
  timingsSchema,
} from "../schema/common.ts";
import { MAX_STOPS } from "../../../src/engine/request/sampling.ts";

/** Most of each prompt's likeliest tokens that are told. */
const MOST_PROBS = 20;

const textObject = z.object({
  prompt_string: promptText,
  multimodal_data: harmless("prompt.multimodal_data", [[]]),
}).openapi("LlamaPromptObject");

const part = z.union([promptText, z.int().min(0)]);
const sequence = z.union([promptText, textObject, z.array(part).min(1)]);
export type PromptSequence = z.output<typeof sequence>;

const bias = z.union([z.number().min(-100).max(100), z.literal(false)]);

const LIMIT = "-1 = as many as fit (the default). It ends where the context does.";

export const llamaRequestSchema = z.object({
  prompt: z.union([sequence, z.array(sequence).min(1).max(128)]).openapi({
    description: "A text, token ids, or both mixed in one list; or several of these in a list.",
  }),
  model: generationFields.model,
  adapter: generationFields.adapter,
  n_predict: z.int().min(-1).nullish().openapi({ description: LIMIT }),
  max_tokens: z.int().min(-1).nullish().openapi({ description: "The same as `n_predict`." }),
  temperature: generationFields.temperature,
  top_k: generationFields.top_k,
  top_p: generationFields.top_p,
  min_p: generationFields.min_p,
  repeat_penalty: generationFields.repetition_penalty,
  presence_penalty: generationFields.presence_penalty,
  frequency_penalty: generationFields.frequency_penalty,
  seed: generationFields.seed.openapi({ description: "Negative = a random one." }),
  stop: z.array(stopString).max(MAX_STOPS).nullish(),
  ignore_eos: z.boolean().nullish(),
  logit_bias: z.union([
    z.record(z.string(), bias),
    z.array(z.tuple([z.union([z.int().min(0), z.string()]), bias])),
  ]).nullish().openapi({
    description: "By token id or text, whose tokens are all meant; `false` = a token is not drawn.",
  }),
  grammar: generationFields.grammar,
  json_schema: generationFields.json_schema,
  n_probs: z.int().min(0).max(MOST_PROBS).nullish().openapi({
    description: "How many of the likeliest tokens to tell of each one drawn.",
  }),
  post_sampling_probs: harmless("post_sampling_probs", [false]),
  stream: z.boolean().nullish(),
  return_tokens: z.boolean().nullish().openapi({ description: "Tells the ids that were drawn." }),
  response_fields: z.array(z.string()).nullish().openapi({
    description: "Only these are answered; `generation_settings/n_predict` is one inside another.",
  }),
}).openapi("LlamaCompletionRequest");
export type LlamaRequest = Readonly<z.output<typeof llamaRequestSchema>>;

const likelySchema = z.object({
  id: z.int(),
  token: z.string(),
  bytes: z.array(z.int()),
  logprob: z.number(),
});
const drawnSchema = likelySchema.extend({ top_logprobs: z.array(likelySchema) })
  .openapi("LlamaProbabilities");
export type Drawn = z.output<typeof drawnSchema>;

export const settingsSchema = z.object({
  n_predict: z.int(),
  seed: z.number().nullable(),
  temperature: z.number(),
  top_k: z.int(),
  top_p: z.number(),
  min_p: z.number(),
  repeat_penalty: z.number(),
  presence_penalty: z.number(),
  frequency_penalty: z.number(),
  ignore_eos: z.boolean(),
  stop: z.array(z.string()),
  n_probs: z.int(),
  stream: z.boolean(),
  logit_bias: z.array(z.object({ token: z.int(), bias: z.number().nullable() })).openapi({
    description: "null = the token is not drawn.",
  }),
}).openapi("LlamaSettings");
export type Settings = z.output<typeof settingsSchema>;

export const stopTypeSchema = z.enum(["eos", "word", "limit", "none"]);

export const llamaAnswerSchema = z.object({
  index: z.int(),
  content: z.string(),
  tokens: z.array(z.int()),
  stop: z.boolean(),
  model: z.string(),
  tokens_predicted: z.int(),
  tokens_evaluated: z.int(),
  prompt: z.string(),
  has_new_line: z.boolean(),
  truncated: z.boolean().openapi({ description: "Whether the context ended it." }),
  stop_type: stopTypeSchema,
  stopping_word: z.string(),
  generation_settings: settingsSchema,
  timings: timingsSchema,
  completion_probabilities: z.array(drawnSchema).optional(),
}).openapi("LlamaCompletion");
export type LlamaAnswer = z.output<typeof llamaAnswerSchema>;

/** An event before a sequence's last one, which is an answer without its content. */
export const llamaChunkSchema = llamaAnswerSchema.pick({
  ...{ index: true, content: true, tokens: true, stop: true },
  ...{ tokens_predicted: true, tokens_evaluated: true, completion_probabilities: true },
}).openapi("LlamaCompletionChunk");
export type LlamaChunk = z.output<typeof llamaChunkSchema>;

export const applyRequestSchema = z.object({
  messages: z.array(messageSchema).min(1),
  ...templateFields,
}).openapi("ApplyTemplateRequest");

export const applyAnswerSchema = z.object({ prompt: z.string() }).openapi("ApplyTemplateAnswer");

export const inputTokensSchema = z.object({ input_tokens: z.int() }).openapi("InputTokens");

export const propsSchema = z.object({
  default_generation_settings: z.object({
    n_ctx: z.int(),
    params: settingsSchema.pick({
      ...{ temperature: true, top_k: true, top_p: true, min_p: true, repeat_penalty: true },
      n_predict: true,
    }),
  }),
  model_alias: z.string(),
  model_path: z.string().openapi({ description: "Where the model was loaded from." }),
  total_slots: z.int(),
  chat_template: z.string().nullable(),
  bos_token: z.string().nullable(),
  eos_token: z.string().nullable(),
  modalities: z.object({ vision: z.literal(false), audio: z.literal(false) }),
  build_info: z.string(),
}).openapi("LlamaProps");

export const slotsSchema = z.array(z.object({
  id: z.int(),
  n_ctx: z.int(),
  is_processing: z.boolean(),
})).openapi("LlamaSlots", {
  description: "Rows of the batch. A sequence has none of its own: as many are busy as run.",
});
