/** The request and the answer of `/v1/embeddings`: OpenAI's, with vLLM's and TEI's ways to cut texts. */
import { z } from "@hono/zod-openapi";
import { inlineAdapterSchema, promptText } from "../schema/common.ts";

/** Texts of a request (OpenAI's bound). */
export const MOST_TEXTS = 2048;

const tokenIds = z.array(z.int().min(0)).min(1);

/** Fields that all of an encoder's endpoints have. */
export const encodingFields = {
  model: z.string().min(1).nullish().openapi({
    description: "The base model, `tenant/name`, `tenant/name@version`, or an unambiguous name. " +
      "Default: the base model.",
  }),
  adapter: inlineAdapterSchema.nullish(),
  user: z.string().nullish(),
  truncate_prompt_tokens: z.int().min(-1).nullish().openapi({
    description:
      "Tokens that are kept of each text, special ones included; -1, the default, keeps " +
      "as many as the model takes (vLLM).",
  }),
  truncate: z.boolean().nullish().openapi({
    description: "Whether texts that are too long are cut, as sentence-transformers does (the " +
      "default), or refused.",
  }),
} as const;

export const embeddingRequestSchema = z.object({
  ...encodingFields,
  input: z.union([
    promptText,
    tokenIds,
    z.array(promptText).min(1).max(MOST_TEXTS),
    z.array(tokenIds).min(1).max(MOST_TEXTS),
  ]).openapi({
    description: "A text, token ids as they are, or up to 2,048 of either.",
  }),
  encoding_format: z.enum(["float", "base64"]).nullish().openapi({
    description: "Numbers (the default), or float32 in base64, little-endian.",
  }),
  dimensions: z.int().min(1).nullish().openapi({
    description:
      "Keeps so many numbers of each vector, brought to length 1 again: for models that " +
      "were trained so (Matryoshka).",
  }),
  add_special_tokens: z.boolean().nullish().openapi({
    description: "Frames texts as the model has them (default: yes).",
  }),
}).openapi("EmbeddingRequest");
export type EmbeddingRequest = Readonly<z.output<typeof embeddingRequestSchema>>;

export const encodingUsageSchema = z.object({
  prompt_tokens: z.int(),
  total_tokens: z.int(),
}).openapi("EncodingUsage");

export const embeddingListSchema = z.object({
  object: z.literal("list"),
  data: z.array(z.object({
    object: z.literal("embedding"),
    index: z.int(),
    embedding: z.union([z.array(z.number()), z.string()]),
  })),
  model: z.string(),
  usage: encodingUsageSchema,
}).openapi("EmbeddingList");
