/**
 * The endpoints that a batch may ask, and what is read of their answers. An endpoint is added here
 * and nowhere else: its lines go through the application like any request.
 */
import type { BatchUsage } from "../../adapters/store/store.ts";

type Json = Readonly<Record<string, unknown>>;

interface BatchEndpoint {
  /** Whether an answer was cut off by the server's end, so that the line is to run again. */
  readonly wasCut: (answer: Json) => boolean;
}

const completions: BatchEndpoint = {
  wasCut: ({ choices }) =>
    Array.isArray(choices) &&
    choices.some((choice) => objectOf(choice)["finish_reason"] === "abort"),
};

const ENDPOINTS = {
  "/v1/chat/completions": completions,
  "/v1/completions": completions,
  "/v1/embeddings": { wasCut: () => false },
  // one that is cut off is an error there
  "/v1/responses": { wasCut: () => false },
} as const satisfies Readonly<Record<string, BatchEndpoint>>;

export type BatchEndpointPath = keyof typeof ENDPOINTS;
export const BATCH_ENDPOINTS = Object.keys(ENDPOINTS) as [
  BatchEndpointPath,
  ...BatchEndpointPath[],
];

export function wasCut(path: string, answer: unknown): boolean {
  return ENDPOINTS[path as BatchEndpointPath]?.wasCut(objectOf(answer)) ?? false;
}

/** Tokens by an answer's usage, in either of OpenAI's spellings. */
export function usageOf(answer: unknown): BatchUsage {
  const usage = objectOf(objectOf(answer)["usage"]);
  const details = objectOf(usage["prompt_tokens_details"] ?? usage["input_tokens_details"]);
  return {
    inputTokens: countOf(usage["prompt_tokens"] ?? usage["input_tokens"]),
    cachedTokens: countOf(details["cached_tokens"]),
    outputTokens: countOf(usage["completion_tokens"] ?? usage["output_tokens"]),
  };
}

function countOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null ? value as Json : {};
}
