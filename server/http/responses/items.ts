/**
 * The items of which responses are made, put in and come out: messages, reasoning, calls of functions
 * and their results. Ids have the id of their response inside, so that an item is found by its own.
 */
import { z } from "@hono/zod-openapi";
import { chatTokenLogprobSchema } from "../schema/chat.ts";
import { promptText } from "../schema/common.ts";

const ITEM_STATUSES = ["in_progress", "completed", "incomplete"] as const;
export type ItemStatus = typeof ITEM_STATUSES[number];
const status = z.enum(ITEM_STATUSES);

// ---- as requests have them ----

const inputTextPart = z.object({ type: z.literal("input_text"), text: promptText });

const partSchema = z.discriminatedUnion("type", [
  inputTextPart,
  z.object({ type: z.literal("output_text"), text: promptText }),
  z.object({ type: z.literal("refusal"), refusal: z.string() }),
]).openapi("ResponseInputPart", {
  description: "Text. Images, files and audio are refused.",
});

const messageItem = z.object({
  type: z.literal("message").optional(),
  role: z.enum(["user", "assistant", "system", "developer"]),
  content: z.union([promptText, z.array(partSchema)]),
  id: z.string().nullish(),
  status: status.nullish(),
});

const callItem = z.object({
  type: z.literal("function_call"),
  call_id: z.string().min(1),
  name: z.string().min(1),
  namespace: z.string().nullish(),
  arguments: z.string().openapi({ description: "A JSON object, as text." }),
  id: z.string().nullish(),
  status: status.nullish(),
});

const resultItem = z.object({
  type: z.literal("function_call_output"),
  call_id: z.string().min(1).openapi({ description: "The `function_call` that it answers." }),
  output: z.union([promptText, z.array(inputTextPart)]),
  id: z.string().nullish(),
  status: status.nullish(),
});

const reasoningText = z.object({ type: z.literal("reasoning_text"), text: promptText });
const summaryText = z.object({ type: z.literal("summary_text"), text: z.string() });

const reasoningItem = z.object({
  type: z.literal("reasoning"),
  content: z.array(reasoningText).nullish(),
  summary: z.array(summaryText).nullish().openapi({
    description: "Stands for the reasoning where there is no `content`.",
  }),
  id: z.string().nullish(),
  status: status.nullish(),
}).openapi({
  description: "What the assistant thought before the next item. The chat template says what the " +
    "model sees of it; `encrypted_content` is left out.",
});

const compactionItem = z.object({
  type: z.literal("compaction"),
  encrypted_content: z.string().openapi({
    description: "As `/v1/responses/compact` gave it to this tenant: a summary of what was before.",
  }),
  id: z.string().nullish(),
});

export const inputItemSchema = z.discriminatedUnion("type", [
  messageItem,
  callItem,
  resultItem,
  compactionItem,
  reasoningItem,
  z.object({
    type: z.literal("item_reference"),
    id: z.string().openapi({ description: "An item of a stored response." }),
  }),
]).openapi("ResponseInputItem", {
  description: "Items of built-in tools are refused.",
});
export type InputItem = z.output<typeof inputItemSchema>;

// ---- as they are kept and listed ----

const outputTextPart = z.object({
  type: z.literal("output_text"),
  text: promptText,
  annotations: z.array(z.unknown()).max(0),
  logprobs: z.array(chatTokenLogprobSchema),
});

const toldMessage = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  status,
  content: z.array(outputTextPart),
});

const givenMessage = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.enum(["user", "system", "developer"]),
  status,
  content: z.array(inputTextPart),
});

const keptCall = z.object({
  id: z.string(),
  type: z.literal("function_call"),
  status,
  call_id: z.string(),
  name: z.string(),
  namespace: z.string().nullish(),
  arguments: z.string(),
});

const keptResult = z.object({
  id: z.string(),
  type: z.literal("function_call_output"),
  status,
  call_id: z.string(),
  output: z.union([promptText, z.array(inputTextPart)]),
});

const keptReasoning = z.object({
  id: z.string(),
  type: z.literal("reasoning"),
  status,
  summary: z.array(summaryText).openapi({ description: "Of a request's; answers have none." }),
  content: z.array(reasoningText),
});

const keptCompaction = z.object({
  id: z.string(),
  type: z.literal("compaction"),
  encrypted_content: z.string(),
});

export const outputItemSchema = z.discriminatedUnion("type", [
  toldMessage,
  keptReasoning,
  keptCall,
])
  .openapi("ResponseOutputItem");
export type OutputItem = z.output<typeof outputItemSchema>;
export type OutputMessage = z.output<typeof toldMessage>;
export type OutputReasoning = z.output<typeof keptReasoning>;
export type OutputCall = z.output<typeof keptCall>;

export const itemSchema = z.union([
  toldMessage,
  givenMessage,
  keptReasoning,
  keptCall,
  keptResult,
  keptCompaction,
])
  .openapi("ResponseItem");
/** An item that was put in, or came out. */
export type Item = z.output<typeof itemSchema>;

// ---- ids ----

const KINDS = {
  message: "msg",
  reasoning: "rs",
  function_call: "fc",
  function_call_output: "fco",
  compaction: "cmp",
} as const satisfies Readonly<Record<Item["type"], string>>;

/** The id of a response's item; `side` says whether it was put in or came out. */
export function itemId(
  response: string,
  type: Item["type"],
  side: "in" | "out",
  index: number,
): string {
  return `${KINDS[type]}_${response.slice("resp_".length)}${side}${index}`;
}

/** The response whose item has this id; undefined for what is no id of an item. */
export function responseOf(item: string): string | undefined {
  const [, hex] = /^(?:msg|rs|fc|fco|cmp)_([0-9a-f]{32})(?:in|out)\d{1,9}$/.exec(item) ?? [];
  return hex === undefined ? undefined : `resp_${hex}`;
}

/** Whether a text can be a response's id. */
export function isResponseId(text: string): boolean {
  return /^resp_[0-9a-f]{32}$/.test(text);
}

/** Whether a text can be a conversation's id. */
export function isConversationId(text: string): boolean {
  return /^conv_[0-9a-f]{32}$/.test(text);
}
