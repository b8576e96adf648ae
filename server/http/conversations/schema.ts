/** Shapes of conversations, which are OpenAI's; their items are the Responses API's. */
import { z } from "@hono/zod-openapi";
import { itemsQuerySchema } from "../responses/answer_schema.ts";
import { inputItemSchema } from "../responses/items.ts";
import { metadataSchema } from "../schema/common.ts";

/** Items that a request may add. */
const MOST_ITEMS = 20;

const items = z.array(inputItemSchema).max(MOST_ITEMS).openapi({
  description: `At most ${MOST_ITEMS} at once.`,
});

export const createConversationSchema = z.object({
  items: items.nullish(),
  metadata: metadataSchema.nullish(),
}).openapi("CreateConversationRequest");

export const updateConversationSchema = z.object({
  metadata: metadataSchema.nullable().openapi({ description: "In place of the former." }),
}).openapi("UpdateConversationRequest");

export const addItemsSchema = z.object({ items }).openapi("AddConversationItemsRequest");

export const itemQuerySchema = itemsQuerySchema.pick({ include: true });

export const conversationSchema = z.object({
  id: z.string(),
  object: z.literal("conversation"),
  created_at: z.int(),
  metadata: z.record(z.string(), z.string()),
}).openapi("Conversation");

export const conversationDeletedSchema = z.object({
  id: z.string(),
  object: z.literal("conversation.deleted"),
  deleted: z.literal(true),
}).openapi("ConversationDeleted");
