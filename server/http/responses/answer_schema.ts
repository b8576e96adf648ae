/** What OpenAI's Responses API answers. */
import { z } from "@hono/zod-openapi";
import { effort, orNull } from "../schema/common.ts";
import { limitField } from "../schema/files.ts";
import { itemSchema, outputItemSchema } from "./items.ts";
import {
  LOGPROBS,
  responseTextFormat,
  responseToolChoice,
  responseToolSchema,
  SUMMARIES,
} from "./schema.ts";

const usageSchema = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({
    cached_tokens: z.int(),
    cache_write_tokens: z.literal(0).openapi({
      description:
        "What is kept for prompts that begin alike costs nothing extra, so nothing counts.",
    }),
  }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
}).openapi("ResponseUsage");
export type ResponseUsage = z.output<typeof usageSchema>;

const text = z.string().nullable();

export const responseSchema = z.object({
  id: z.string(),
  object: z.literal("response"),
  created_at: z.int(),
  status: z.enum(["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]),
  background: z.boolean(),
  completed_at: z.int().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.literal("max_output_tokens") }).nullable(),
  instructions: text,
  max_output_tokens: z.int().nullable(),
  max_tool_calls: z.int().nullable(),
  metadata: z.record(z.string(), z.string()),
  model: z.string(),
  parallel_tool_calls: z.boolean(),
  previous_response_id: text,
  conversation: z.object({ id: z.string() }).nullable(),
  prompt_cache_key: text,
  reasoning: z.object({
    effort: effort.nullable(),
    summary: z.enum(SUMMARIES).nullable(),
  }),
  safety_identifier: text,
  service_tier: z.literal("default"),
  store: z.boolean(),
  temperature: z.number(),
  text: z.object({ format: responseTextFormat, verbosity: z.literal("medium") }),
  tool_choice: responseToolChoice,
  tools: z.array(responseToolSchema),
  top_logprobs: z.int(),
  top_p: z.number(),
  truncation: z.enum(["auto", "disabled"]),
  usage: orNull(usageSchema),
  user: text,
  output: z.array(outputItemSchema),
}).openapi("Response");
export type ResponseBody = z.output<typeof responseSchema>;

/** The data of a stream's events; `event:` has their type, too. */
export const responseEventSchema = z.looseObject({
  type: z.enum([
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
  ]).openapi({ description: "`response.failed` ends one that was cancelled, too." }),
  sequence_number: z.int(),
}).openapi("ResponseEvent");
export type ResponseEventType = z.output<typeof responseEventSchema>["type"];

export const compactedSchema = z.object({
  id: z.string(),
  object: z.literal("response.compaction"),
  created_at: z.int(),
  output: z.array(itemSchema).openapi({
    description: "The user's messages, then one compaction: together what to go on with.",
  }),
  usage: usageSchema,
}).openapi("CompactedResponse");

export const countSchema = z.object({
  object: z.literal("response.input_tokens"),
  input_tokens: z.int(),
}).openapi("ResponseCount");

export const deletedSchema = z.object({
  id: z.string(),
  object: z.literal("response"),
  deleted: z.literal(true),
}).openapi("ResponseDeleted");

/** `include=…`, `include[]=…` */
const include = z.union([z.string(), z.record(z.string(), z.string())]).refine(
  (value) => !JSON.stringify(value).includes(LOGPROBS),
  {
    message: `Unsupported value for 'include': '${LOGPROBS}' is told when a response is made, ` +
      "and not kept.",
  },
).optional();

export const retrieveQuerySchema = z.strictObject({
  stream: z.enum(["true", "false"]).optional().openapi({
    description: "Whether it is told as OpenAI's events, each text as one delta.",
  }),
  starting_after: z.string().regex(/^\d{1,9}$/, "it must be a number").transform(Number).optional()
    .openapi({
      type: "integer",
      minimum: 0,
      description: "Of a stream: the number of the event after which it begins.",
    }),
  include,
  include_obfuscation: z.enum(["true", "false"]).optional().openapi({
    description: "Of a stream: pads its deltas (default: no).",
  }),
});

export const itemsQuerySchema = z.strictObject({
  limit: limitField(100),
  order: z.enum(["asc", "desc"]).optional(),
  after: z.string().optional(),
  include,
});

export const itemListSchema = z.object({
  object: z.literal("list"),
  data: z.array(itemSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
}).openapi("ResponseItemList");
