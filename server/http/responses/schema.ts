/** The requests of OpenAI's Responses API. Their tools are flat, and their format lies in `text`. */
import { z } from "@hono/zod-openapi";
import {
  effortSchema,
  generationFields,
  harmless,
  metadataSchema,
  obfuscationField,
  orNull,
  promptText,
  verbositySchema,
} from "../schema/common.ts";
import { MOST_TOOLS, toolSchema } from "../schema/tools.ts";
import { inputItemSchema } from "./items.ts";

/** What `include` may have. All but one ask for what only built-in tools and reasoning give. */
const INCLUDABLE = [
  "message.output_text.logprobs",
  "reasoning.encrypted_content",
  "code_interpreter_call.outputs",
  "computer_call_output.output.image_url",
  "file_search_call.results",
  "message.input_image.image_url",
  "web_search_call.action.sources",
  "web_search_call.results",
] as const;
/** What has log probabilities told. */
export const LOGPROBS = "message.output_text.logprobs";

const { function: { shape: { name, description, parameters, strict } } } = toolSchema.shape;

const functionSchema = z.object({
  type: z.literal("function"),
  ...{ name, description, parameters, strict },
}).openapi("ResponseFunction");
export type ResponseFunction = z.output<typeof functionSchema>;

export const responseToolSchema = z.discriminatedUnion("type", [
  functionSchema,
  z.object({
    type: z.literal("namespace"),
    name,
    description: z.string().nullish(),
    tools: z.array(functionSchema).min(1).max(MOST_TOOLS),
  }),
]).openapi("ResponseTool", {
  description:
    "A function, or several under a namespace, whose calls name it. Built-in tools are " +
    "refused: the caller runs tools here.",
});
export type ResponseTool = z.output<typeof responseToolSchema>;

export const responseToolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.object({ type: z.literal("function"), name: z.string() }),
]).openapi("ResponseToolChoice", {
  description: "`required` and a function have a grammar write calls by their schemas.",
});

const jsonSchema = z.record(z.string(), z.unknown());

export const responseTextFormat = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  z.object({
    type: z.literal("json_schema"),
    name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "only a-z, A-Z, 0-9, _ and -, at most 64"),
    schema: jsonSchema,
    description: z.string().nullish(),
    strict: z.boolean().nullish(),
  }),
]).openapi("ResponseTextFormat");

const textSchema = z.object({
  format: responseTextFormat.nullish(),
  verbosity: verbositySchema,
}).openapi("ResponseText");

/** OpenAI's words for summaries of reasoning. */
export const SUMMARIES = ["auto", "concise", "detailed"] as const;

const reasoningSchema = z.object({
  effort: effortSchema,
  summary: z.enum(SUMMARIES).nullish().openapi({
    description: "Without effect: what the model thinks comes whole, as `content`.",
  }),
  generate_summary: harmless("reasoning.generate_summary", [...SUMMARIES]),
}).openapi("ResponseReasoning");

/** What becomes the prompt. */
const promptFields = {
  model: generationFields.model,
  input: z.union([promptText, z.array(inputItemSchema)]).nullish().openapi({
    description:
      "A text of the user's, or items. Default: nothing more than what it goes on from, or " +
      "than `instructions`, where the model's chat template can do with that.",
  }),
  instructions: orNull(promptText).optional().openapi({
    description: "The system's message; that of the response before it does not count any more.",
  }),
  previous_response_id: z.string().nullish().openapi({
    description: "A stored response to go on from, with all that it went on from itself.",
  }),
  tools: z.array(responseToolSchema).max(MOST_TOOLS).nullish(),
  tool_choice: responseToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish().openapi({
    description: "Whether an answer may have several calls (default: yes).",
  }),
  text: textSchema.nullish(),
  reasoning: reasoningSchema.nullish(),
  truncation: z.enum(["auto", "disabled"]).nullish().openapi({
    description: "`auto`: of a prompt that is too long the beginning is left out, instructions " +
      "too; say `max_output_tokens`, so that there is room for an answer.",
  }),
  conversation: z.union([z.string(), z.strictObject({ id: z.string() })]).nullish().openapi({
    description: "A conversation to go on with, to which what is put in and comes out is added; " +
      "not beside `previous_response_id`.",
  }),
} as const;

export const countRequestSchema = z.object({
  ...promptFields,
  personality: harmless("personality", []),
}).openapi("ResponseCountRequest");
export type CountRequest = Readonly<z.output<typeof countRequestSchema>>;

export const compactRequestSchema = z.object({
  model: promptFields.model,
  input: promptFields.input,
  instructions: promptFields.instructions,
  previous_response_id: promptFields.previous_response_id,
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: harmless("prompt_cache_retention", ["in_memory", "24h"]),
  service_tier: harmless("service_tier", ["auto", "default"]),
}).openapi("ResponseCompactRequest");
export type CompactRequest = Readonly<z.output<typeof compactRequestSchema>>;

export const responseRequestSchema = z.object({
  ...promptFields,
  max_output_tokens: z.int().min(1).nullish().openapi({
    description: "Default: what fits. The model's own bound (sampling_defaults.max_tokens of " +
      "/v1/models/{model}) holds where it is lower.",
  }),
  max_tool_calls: z.int().min(1).nullish().openapi({
    description: "Of built-in tools, which are none here.",
  }),
  temperature: generationFields.temperature,
  top_p: generationFields.top_p,
  top_logprobs: z.int().min(0).max(20).nullish().openapi({
    description: `Only where 'include' has '${LOGPROBS}'.`,
  }),
  include: z.array(z.enum(INCLUDABLE)).nullish().openapi({
    description: `'${LOGPROBS}' has log probabilities told, in this answer alone.`,
  }),
  store: z.boolean().nullish().openapi({
    description:
      "Whether it is kept, to be read and gone on from (default: yes, where the server " +
      "keeps anything). What broke off or failed is not, but in the " +
      "background.",
  }),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({
    include_obfuscation: obfuscationField,
  }).nullish(),
  metadata: metadataSchema.nullish(),
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: harmless("prompt_cache_retention", ["in_memory", "24h"]),
  service_tier: harmless("service_tier", ["auto", "default"]),
  background: z.boolean().nullish().openapi({
    description:
      "Answers at once, and runs without anybody waiting: it is read, heard from any event " +
      "on, or cancelled under its id. Only what is kept (`store`) can.",
  }),
  context_management: harmless("context_management", [[]]),
  moderation: harmless("moderation", []),
  prompt: harmless("prompt", []),
  adapter: generationFields.adapter,
  top_k: generationFields.top_k,
  min_p: generationFields.min_p,
  repetition_penalty: generationFields.repetition_penalty,
  seed: generationFields.seed,
  stop: generationFields.stop,
  priority: generationFields.priority,
}).openapi("ResponseRequest");
export type ResponseRequest = Readonly<z.output<typeof responseRequestSchema>>;
