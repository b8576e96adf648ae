/** What a request may say of its output's form: OpenAI's `response_format`, vLLM's and llama.cpp's names. */
import { z } from "@hono/zod-openapi";

const jsonSchema = z.record(z.string(), z.unknown());
const schemaOrText = z.union([jsonSchema, z.string()]);
const choices = z.array(z.string().min(1)).min(1).max(1024);

const MISSING = "give the schema as 'json_schema.schema', or as 'schema'";

/** As requests have it; `schema` beside the type is llama.cpp's. */
const formats = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object"), schema: jsonSchema.nullish() }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "only a-z, A-Z, 0-9, _ and -, at most 64")
        .nullish(),
      description: z.string().nullish(),
      schema: jsonSchema,
      strict: z.boolean().nullish(),
    }).nullish(),
    schema: jsonSchema.nullish(),
  }),
  z.strictObject({
    type: z.literal("structural_tag"),
    format: jsonSchema.optional(),
    structures: z.array(jsonSchema).optional(),
    triggers: z.array(z.string()).optional(),
  }),
]);

type Format = z.output<typeof formats>;

/** The same in OpenAI's one form. */
type OneFormat =
  | { readonly type: "text" | "json_object" }
  | { readonly type: "structural_tag" }
  | {
    readonly type: "json_schema";
    readonly json_schema: {
      readonly schema: Readonly<Record<string, unknown>>;
      readonly strict?: boolean | null | undefined;
    };
  };

export const responseFormatSchema = formats.superRefine((format, c) => {
  if (format.type !== "json_schema" || format.json_schema || format.schema) return;
  c.addIssue({
    code: "custom",
    path: ["json_schema"],
    message: `Missing 'response_format': ${MISSING}.`,
  });
}).transform(toOne).openapi("ResponseFormat");

function toOne(format: Format): OneFormat {
  if (format.type === "text" || format.type === "structural_tag") return format;
  const given = format.type === "json_schema" ? format.json_schema : undefined;
  if (given) return { type: "json_schema", json_schema: given };
  const { schema } = format;
  return schema ? { type: "json_schema", json_schema: { schema } } : { type: "json_object" };
}

const structuredOutputsSchema = z.strictObject({
  json: schemaOrText.nullish().openapi({ description: "A JSON schema, or its text." }),
  regex: z.string().nullish(),
  choice: choices.nullish(),
  grammar: z.string().nullish().openapi({ description: "GBNF; it begins with the rule `root`." }),
  json_object: z.boolean().nullish(),
  disable_fallback: z.boolean().nullish(),
  disable_any_whitespace: z.literal([false]).nullish(),
  disable_additional_properties: z.literal([false]).nullish(),
  whitespace_pattern: z.null().optional(),
  structural_tag: schemaOrText.nullish().openapi({
    description: "Free text in which tags have a form, as xgrammar has them, or its JSON text.",
  }),
}).openapi("StructuredOutputs", { description: "vLLM's; one of them." });

/** The names that stand at a request's top. */
export const structuredFields = {
  structured_outputs: structuredOutputsSchema.nullish(),
  guided_json: schemaOrText.nullish().openapi({ description: "A JSON schema (vLLM)." }),
  guided_regex: z.string().nullish().openapi({
    description: "A pattern of the whole text (vLLM).",
  }),
  guided_choice: choices.nullish().openapi({ description: "One of these texts (vLLM)." }),
  guided_grammar: z.string().nullish().openapi({ description: "A grammar in GBNF (vLLM)." }),
  guided_decoding_backend: z.string().nullish().openapi({ description: "Taken and not used." }),
  guided_whitespace_pattern: z.null().optional(),
  grammar: z.string().nullish().openapi({ description: "A grammar in GBNF (llama.cpp)." }),
  json_schema: jsonSchema.nullish().openapi({ description: "A JSON schema (llama.cpp)." }),
} as const;
