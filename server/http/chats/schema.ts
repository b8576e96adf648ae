/** Shapes of stored chat completions, which are OpenAI's. */
import { z } from "@hono/zod-openapi";
import { chatCompletionSchema, chatRequestSchema, messageSchema } from "../schema/chat.ts";
import { metadataSchema } from "../schema/common.ts";
import { limitField } from "../schema/files.ts";

const { tools, tool_choice, response_format } = chatRequestSchema.shape;

/** A completion, and what it was asked for. */
export const storedChatSchema = chatCompletionSchema.extend({
  request_id: z.string(),
  input_user: z.string().nullable(),
  service_tier: z.literal("default"),
  seed: z.number().nullable(),
  temperature: z.number(),
  top_p: z.number(),
  presence_penalty: z.number(),
  frequency_penalty: z.number(),
  ...{ tools, tool_choice, response_format },
  metadata: z.record(z.string(), z.string()),
}).openapi("StoredChatCompletion");
export type StoredChatBody = z.output<typeof storedChatSchema>;

const { role, name, reasoning, tool_calls, tool_call_id } = messageSchema.shape;

export const storedMessageSchema = z.object({
  id: z.string(),
  ...{ role, name, reasoning, tool_calls, tool_call_id },
  content: z.string().nullable(),
  refusal: z.null(),
  content_parts: z.array(z.object({ type: z.literal("text"), text: z.string() })).nullable()
    .openapi({ description: "Where the content came in parts; `content` is then null." }),
}).openapi("StoredChatMessage");

export const updateChatSchema = z.strictObject({
  metadata: metadataSchema.nullable().openapi({
    description: "In place of what there is; null = none.",
  }),
}).openapi("UpdateChatCompletionRequest");

const page = {
  limit: limitField(100),
  order: z.enum(["asc", "desc"]).optional(),
  after: z.string().optional(),
} as const;

export const chatsQuerySchema = z.strictObject({
  ...page,
  model: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional().openapi({
    description: "`metadata[key]=value`: those that have all of these.",
  }),
});

export const messagesQuerySchema = z.strictObject(page);

function listOf<S extends z.ZodType>(item: S) {
  return z.object({
    object: z.literal("list"),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

export const chatListSchema = listOf(storedChatSchema).openapi("StoredChatCompletionList");
export const messageListSchema = listOf(storedMessageSchema).openapi("StoredChatMessageList");

export const chatDeletedSchema = z.object({
  object: z.literal("chat.completion.deleted"),
  id: z.string(),
  deleted: z.literal(true),
}).openapi("ChatCompletionDeleted");
