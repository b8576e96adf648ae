// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The requests and answers of Anthropic's Messages API. Its messages hold what one side says in a turn,
 * results of tools among it, as blocks.
 */
import { z } from "@hono/zod-openapi";
import { effort, generationFields, harmless, promptText, stopString } from "../schema/common.ts";
import { MOST_TOOLS } from "../schema/tools.ts";
import { MAX_STOPS } from "../../../src/engine/request/sampling.ts";

const textBlock = z.object({ type: z.literal("text"), text: promptText });
const texts = z.union([promptText, z.array(textBlock)]);

const blockSchema = z.discriminatedUnion("type", [
  textBlock,
  z.object({
    type: z.literal("tool_use"),
    id: z.string().min(1),
    name: z.string().min(1),
    input: z.record(z.string(), z.unknown()),
  }),
  z.object({
    type: z.literal("tool_result"),
    tool_use_id: z.string().openapi({ description: "The `tool_use` that it answers." }),
    content: texts.nullish(),
    is_error: z.boolean().nullish().openapi({ description: "Not shown to the model." }),
  }),
  z.object({ type: z.literal("thinking"), thinking: z.string().nullish() }),
  z.object({ type: z.literal("redacted_thinking") }),
]).openapi("MessageBlock", {
  description:
    "Text, what the assistant thought, of which its chat template says what the model sees, a " +
    "tool's use by the assistant, or its result from the user. Redacted thinking is left out; " +
    "images and documents are refused.",
});
export type MessageBlock = z.output<typeof blockSchema>;

const turnSchema = z.object({
  role: z.enum(["user", "assistant", "system"]),
  content: z.union([promptText, z.array(blockSchema)]),
}).openapi("MessageTurn");
export type MessageTurn = z.output<typeof turnSchema>;

const inputSchema = z.record(z.string(), z.unknown()).refine(
  ({ type }) => type === undefined || type === "object",
  { message: "a tool's 'input_schema' must be a JSON schema of type 'object'" },
);

const toolSchema = z.object({
  type: z.literal("custom").nullish(),
  name: z.string().regex(/^[A-Za-z0-9_-]{1,128}$/, "only a-z, A-Z, 0-9, _ and -, at most 128"),
  description: z.string().nullish(),
  input_schema: inputSchema.openapi({ type: "object", additionalProperties: true }),
  strict: z.boolean().nullish().openapi({
    description: "The schema may have nothing that a grammar cannot hold exactly.",
  }),
}).openapi("MessageTool");

const oneAtMost = {
  disable_parallel_tool_use: z.boolean().nullish().openapi({
    description: "One use of a tool at most.",
  }),
};

const toolChoiceSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("auto"), ...oneAtMost }),
  z.object({ type: z.literal("any"), ...oneAtMost }),
  z.object({ type: z.literal("tool"), name: z.string(), ...oneAtMost }),
  z.object({ type: z.literal("none") }),
]).openapi("MessageToolChoice", {
  description: "`any` and `tool` have a grammar force uses of tools by their schemas.",
});

const outputConfigSchema = z.object({
  format: z.object({
    type: z.literal("json_schema"),
    schema: z.record(z.string(), z.unknown()),
  }).nullish(),
  effort: effort.exclude(["none", "minimal"]).nullish().openapi({
    description: "How much the model is to reason: `reasoning_effort` of chat completions.",
  }),
}).openapi("MessageOutputConfig");

const display = z.enum(["summarized", "omitted"]).nullish().openapi({
  description: "`omitted`: the answer has no blocks of it. Nothing is summarised.",
});

const thinkingSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("disabled") }),
  z.object({
    type: z.literal("enabled"),
    budget_tokens: z.int().min(1).openapi({ description: "Most tokens that the model thinks in." }),
    display,
  }),
  z.object({ type: z.literal("adaptive"), display }),
]).openapi("MessageThinking", {
  description:
    "Whether the model is to think before it answers, and shows it. A server that does " +
    "not part the two (--reasoning-parser) names it in the header `lembas-ignored`, or refuses it " +
    "where it is strict. Without it the chat template decides, and nothing is shown.",
});

/** What becomes the prompt. */
const promptFields = {
  model: generationFields.model,
  messages: z.array(turnSchema).min(1).openapi({
    description:
      "The user's and the assistant's turns. A last one of the assistant is gone on with.",
  }),
  system: texts.nullish(),
  tools: z.array(toolSchema).max(MOST_TOOLS).nullish(),
  tool_choice: toolChoiceSchema.nullish(),
  thinking: thinkingSchema.nullish(),
  output_config: outputConfigSchema.nullish(),
  mcp_servers: harmless("mcp_servers", [[]]),
  container: harmless("container", []),
} as const;

export const countRequestSchema = z.object(promptFields).openapi("MessageCountRequest");
export type CountRequest = Readonly<z.output<typeof countRequestSchema>>;

export const messageRequestSchema = z.object({
  ...promptFields,
  max_tokens: z.int().min(1).openapi({
    description: "The model's own bound (sampling_defaults.max_tokens of /v1/models/{model}) " +
      "holds where it is lower.",
  }),
  adapter: generationFields.adapter,
  temperature: generationFields.temperature,
  top_p: generationFields.top_p,
  top_k: generationFields.top_k,
  stop_sequences: z.array(stopString).max(MAX_STOPS).nullish(),
  stream: z.boolean().nullish(),
  metadata: z.object({ user_id: z.string().nullish() }).nullish(),
  service_tier: harmless("service_tier", ["auto", "standard_only"]),
}).openapi("MessageRequest");
export type MessageRequest = Readonly<z.output<typeof messageRequestSchema>>;

const answerBlock = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("thinking"),
    thinking: z.string(),
    signature: z.literal("").openapi({ description: "Thinking may go back without one." }),
  }),
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
  }),
]);
export type AnswerBlock = z.output<typeof answerBlock>;

const stopReason = z.enum(["end_turn", "max_tokens", "stop_sequence", "tool_use"]);

const usageSchema = z.object({
  input_tokens: z.int().openapi({ description: "Of the prompt, without those read from cache." }),
  cache_creation_input_tokens: z.int(),
  cache_read_input_tokens: z.int(),
  output_tokens: z.int(),
}).openapi("MessageUsage");
export type MessageUsage = z.output<typeof usageSchema>;

export const messageSchema = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(answerBlock),
  stop_reason: stopReason.nullable(),
  stop_sequence: z.string().nullable(),
  usage: usageSchema,
}).openapi("Message");
export type Message = z.output<typeof messageSchema>;

/** The data of a stream's events; `event:` has their type, too. */
export const messageEventSchema = z.looseObject({
  type: z.enum([
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
  ]),
}).openapi("MessageEvent");

export const countSchema = z.object({ input_tokens: z.int() }).openapi("MessageCount");

export const messageErrorSchema = z.object({
  type: z.literal("error"),
  error: z.object({ type: z.string(), message: z.string() }),
  request_id: z.string(),
}).openapi("MessageError");
export type MessageErrorBody = z.output<typeof messageErrorSchema>;
