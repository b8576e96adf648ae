/** Tools in requests, and calls of them in messages and answers: OpenAI's shapes. */
import { z } from "@hono/zod-openapi";

/** Most tools of a request, as OpenAI has it. */
export const MOST_TOOLS = 128;

const functionName = z.string().regex(
  /^[A-Za-z0-9_.-]{1,64}$/,
  "only a-z, A-Z, 0-9, _, . and -, at most 64",
);

const parametersSchema = z.record(z.string(), z.unknown()).refine(
  ({ type }) => type === undefined || type === "object",
  { message: "a function's parameters must be a JSON schema of type 'object'" },
);

export const toolSchema = z.object({
  type: z.literal("function"),
  function: z.object({
    name: functionName,
    description: z.string().nullish(),
    parameters: parametersSchema.nullish().openapi({
      type: "object",
      additionalProperties: true,
      description: "JSON schema of the arguments (default: none are taken).",
    }),
    strict: z.boolean().nullish().openapi({
      description:
        "Calls that `tool_choice` forces keep to their schema, strict or not; others are " +
        "as the model writes them.",
    }),
  }),
}).openapi("Tool");
export type ToolBody = Readonly<z.output<typeof toolSchema>>;

const toolsSchema = z.array(toolSchema).max(MOST_TOOLS);

/** Tools that a template shows; `/tokenize` has them too. */
export const shownTools = {
  tools: toolsSchema.nullish().openapi({
    description:
      "Functions that the model may call. They are told to it by its chat template, or " +
      "in the system's message where that knows no tools.",
  }),
} as const;

export const toolFields = {
  ...shownTools,
  tool_choice: z.union([
    z.enum(["none", "auto", "required"]),
    z.object({ type: z.literal("function"), function: z.object({ name: z.string() }) }),
  ]).nullish().openapi({
    description: "`auto` (the default with tools): calls are read from the text, in the model's " +
      "own format. `required` or a function: a grammar has it written. `none`: the model is not " +
      "told of the tools.",
  }),
  parallel_tool_calls: z.boolean().nullish().openapi({
    description: "Whether an answer may have several calls (default: yes).",
  }),
} as const;

/** A call in a message of the history. */
export const messageCallSchema = z.object({
  id: z.string(),
  type: z.literal("function").nullish(),
  function: z.object({
    name: z.string(),
    arguments: z.union([z.string(), z.record(z.string(), z.unknown())]).nullish().openapi({
      description: "A JSON object, usually as text.",
    }),
  }),
}).openapi("MessageToolCall");

/** A call in an answer. */
export const toolCallSchema = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string() }),
}).openapi("ToolCall");
export type ToolCallBody = z.output<typeof toolCallSchema>;

/** A piece of a call: the first has its id and name, all have more of its arguments. */
export const toolCallDeltaSchema = z.object({
  index: z.int(),
  id: z.string().optional(),
  type: z.literal("function").optional(),
  function: z.object({ name: z.string().optional(), arguments: z.string() }),
}).openapi("ToolCallDelta");
export type ToolCallDelta = z.output<typeof toolCallDeltaSchema>;
