/** The request and the answers of `/v1/chat/completions`. */
import { z } from "@hono/zod-openapi";
import { ROLES } from "../../../src/checkpoint/text/roles.ts";
import {
  effortSchema,
  finishReasonSchema,
  generationFields,
  harmless,
  metadataSchema,
  orNull,
  promptLogprobsSchema,
  promptText,
  requestMetricsSchema,
  stopReasonSchema,
  timingsSchema,
  tokenIdsSchema,
  verbositySchema,
} from "./common.ts";
import { usageSchema } from "./common.ts";
import {
  messageCallSchema,
  shownTools,
  toolCallDeltaSchema,
  toolCallSchema,
  toolFields,
} from "./tools.ts";

const textPartSchema = z.object({ type: z.literal("text"), text: promptText });

const OWN_ROLE = /^[A-Za-z][\w-]{0,63}$/;
/** A name, so that no role writes a template's marks. */
const roleSchema = z.string().regex(
  OWN_ROLE,
  `it must be one of ${ROLES.join(", ")}, or a name of the template's own, e.g. critic`,
).openapi({
  description:
    "`tool` answers a call of `tool_calls`; `function`, and names of its own, go to the " +
    `template as they are. Usual: ${ROLES.join(", ")}.`,
  example: "user",
});

export const messageSchema = z.object({
  role: roleSchema,
  content: z.union([promptText, z.array(textPartSchema).min(1)]).nullish(),
  name: z.string().nullish(),
  tool_call_id: z.string().nullish().openapi({ description: "The call that a tool answers." }),
  refusal: harmless("messages[].refusal", []),
  audio: harmless("messages[].audio", []),
  reasoning: z.string().nullish().openapi({
    description: "What the assistant thought, where its template shows it.",
  }),
  reasoning_content: z.string().nullish().openapi({ description: "The same, by its older name." }),
  tool_calls: z.array(messageCallSchema).nullish().openapi({
    description: "What the assistant called; its content may then be null.",
  }),
  function_call: harmless("messages[].function_call", []),
}).openapi("ChatMessage");
export type MessageBody = z.output<typeof messageSchema>;

/** Fields that turn messages into a prompt; `/tokenize` has them too. */
export const templateFields = {
  add_generation_prompt: z.boolean().nullish().openapi({
    description: "Opens the assistant's turn (default: unless the final message is continued).",
  }),
  continue_final_message: z.boolean().nullish().openapi({
    description: "The last message is left open for the model to go on with.",
  }),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  ...shownTools,
} as const;

const MAX_TOKENS = "Default: what fits. The model's own bound (sampling_defaults.max_tokens of " +
  "/v1/models/{model}) holds where it is lower.";

export const chatRequestSchema = z.object({
  ...generationFields,
  messages: z.array(messageSchema).min(1),
  ...templateFields,
  max_tokens: z.int().min(1).nullish().openapi({ description: MAX_TOKENS }),
  max_completion_tokens: z.int().min(1).nullish().openapi({ description: MAX_TOKENS }),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  metadata: metadataSchema.nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  ...toolFields,
  audio: harmless("audio", []),
  function_call: harmless("function_call", ["none"]),
  functions: harmless("functions", [[]]),
  modalities: harmless("modalities", [["text"]]),
  prediction: harmless("prediction", []),
  include_reasoning: z.boolean().nullish().openapi({
    description: "Whether the answer has its reasoning (default: yes; vLLM).",
  }),
  thinking_token_budget: z.int().min(-1).nullish().openapi({
    description: "Most tokens that the model reasons in, where the server knows its marks " +
      "(--reasoning-parser): then the mark that ends reasoning is written. -1 = no bound (vLLM).",
  }),
  reasoning_effort: effortSchema,
  store: z.boolean().nullish().openapi({
    description: "Whether it is kept, with its `metadata`, to be listed and read (default: no). " +
      "What broke off or failed is not.",
  }),
  verbosity: verbositySchema,
  web_search_options: harmless("web_search_options", []),
  echo: z.boolean().nullish().openapi({
    description: "The answer begins with the final message, where that is the assistant's (vLLM).",
  }),
  timings_per_token: z.boolean().nullish().openapi({
    description: "Tells how fast the prompt and the answer are computed (llama.cpp).",
  }),
  verbose: z.boolean().nullish().openapi({
    description: "Tells the prompt as the template wrote it, where it is not streamed (llama.cpp).",
  }),
  best_of: harmless("best_of", [1]),
}).openapi("ChatCompletionRequest");
export type ChatRequest = Readonly<z.output<typeof chatRequestSchema>>;

// not extended, which would describe it as both at once
export const chatBatchSchema = z.object({
  ...chatRequestSchema.shape,
  messages: z.array(z.array(messageSchema).min(1)).min(1).max(128).openapi({
    description: "Conversations: the answer has a choice for each.",
  }),
  n: z.literal(1).nullish(),
  stream: z.literal(false).nullish(),
  tools: z.array(z.unknown()).max(0, "a batch of conversations has no tools").nullish(),
  tool_choice: z.literal("none").nullish(),
  store: harmless("store", [false]),
}).openapi("ChatBatchRequest");
export type ChatBatchRequest = Readonly<z.output<typeof chatBatchSchema>>;

const topLogprobSchema = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int()),
});
export const chatTokenLogprobSchema = topLogprobSchema.extend({
  top_logprobs: z.array(topLogprobSchema),
}).openapi("ChatTokenLogprob");
export type ChatTokenLogprob = z.output<typeof chatTokenLogprobSchema>;

const chatLogprobsSchema = z.object({
  content: z.array(chatTokenLogprobSchema),
  refusal: z.null(),
}).nullable();

const chatFinishReason = z.enum([...finishReasonSchema.options, "tool_calls"]);

export const chatCompletionSchema = z.object({
  id: z.string(),
  object: z.literal("chat.completion"),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(z.object({
    index: z.int(),
    message: z.object({
      role: z.literal("assistant"),
      content: z.string().nullable(),
      refusal: z.null(),
      reasoning: z.string().nullable().optional(),
      tool_calls: z.array(toolCallSchema).optional(),
    }),
    logprobs: chatLogprobsSchema,
    finish_reason: chatFinishReason,
    stop_reason: stopReasonSchema,
    token_ids: tokenIdsSchema,
  })),
  usage: usageSchema,
  prompt_logprobs: orNull(promptLogprobsSchema).optional(),
  prompt_token_ids: tokenIdsSchema,
  timings: timingsSchema.optional(),
  metrics: requestMetricsSchema.optional(),
  __verbose: z.object({ prompt: z.string(), tokens_evaluated: z.int() }).optional(),
}).openapi("ChatCompletion");
export type ChatCompletion = z.output<typeof chatCompletionSchema>;

export const chatChunkSchema = z.object({
  id: z.string(),
  object: z.literal("chat.completion.chunk"),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string(),
  choices: z.array(z.object({
    index: z.int(),
    delta: z.object({
      role: z.literal("assistant").optional(),
      content: z.string().optional(),
      reasoning: z.string().optional(),
      tool_calls: z.array(toolCallDeltaSchema).optional(),
    }),
    logprobs: chatLogprobsSchema,
    finish_reason: chatFinishReason.nullable(),
    stop_reason: stopReasonSchema.optional(),
    token_ids: tokenIdsSchema,
  })),
  prompt_token_ids: tokenIdsSchema,
  usage: orNull(usageSchema).optional(),
  timings: timingsSchema.optional(),
  metrics: requestMetricsSchema.optional(),
  obfuscation: z.string().optional(),
}).openapi("ChatCompletionChunk");
