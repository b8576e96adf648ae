/** Requests and answers of `/v1/rerank` and `/v1/score`, in vLLM's shapes, which are Jina's and Cohere's. */
import { z } from "@hono/zod-openapi";
import { promptText } from "../schema/common.ts";
import { encodingFields, encodingUsageSchema, MOST_TEXTS } from "./schema.ts";

const texts = z.union([promptText, z.array(promptText).min(1).max(MOST_TEXTS)]);

export const scoreRequestSchema = z.object({
  ...encodingFields,
  text_1: texts.nullish().openapi({ description: "One text, or as many as the others." }),
  text_2: texts.nullish().openapi({ description: "One text, or several." }),
  queries: texts.nullish().openapi({ description: "Another name of `text_1`." }),
  documents: texts.nullish().openapi({ description: "Another name of `text_2`." }),
}).openapi("ScoreRequest");
export type ScoreRequest = Readonly<z.output<typeof scoreRequestSchema>>;

export const scoreListSchema = z.object({
  id: z.string(),
  object: z.literal("list"),
  created: z.int(),
  model: z.string(),
  data: z.array(z.object({
    index: z.int(),
    object: z.literal("score"),
    score: z.number(),
  })),
  usage: encodingUsageSchema,
}).openapi("ScoreList");

export const rerankRequestSchema = z.object({
  ...encodingFields,
  query: promptText,
  documents: z.array(z.union([promptText, z.object({ text: promptText })])).min(1)
    .max(MOST_TEXTS),
  top_n: z.int().min(0).nullish().openapi({
    description: "How many results are told, the best first; 0, the default, tells all.",
  }),
  return_documents: z.boolean().nullish().openapi({
    description: "Whether results have their texts (default: yes, as in vLLM).",
  }),
}).openapi("RerankRequest");
export type RerankRequest = Readonly<z.output<typeof rerankRequestSchema>>;

export const rerankListSchema = z.object({
  id: z.string(),
  model: z.string(),
  usage: encodingUsageSchema,
  results: z.array(z.object({
    index: z.int(),
    document: z.object({ text: z.string() }).optional(),
    relevance_score: z.number(),
  })),
}).openapi("RerankList");
