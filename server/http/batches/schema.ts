/** Shapes of `/v1/batches`, which are OpenAI's, and how records show in them. */
import { z } from "@hono/zod-openapi";
import { BATCH_STATUSES, type BatchRecord } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import { BATCH_ENDPOINTS } from "../../batches/endpoints.ts";
import { metadataSchema } from "../schema/common.ts";
import { expiresAfterSchema, limitField } from "../schema/files.ts";

export const createBatchSchema = z.strictObject({
  input_file_id: z.string().min(1).openapi({
    description: "A file with the purpose `batch`: a request a line, at most 50,000.",
  }),
  endpoint: z.enum(BATCH_ENDPOINTS),
  completion_window: z.literal("24h"),
  metadata: metadataSchema.nullish(),
  output_expires_after: expiresAfterSchema.nullish().openapi({
    description: "Default: the files stay until they are deleted.",
  }),
}).openapi("CreateBatchRequest");
export type CreateBatchBody = Readonly<z.output<typeof createBatchSchema>>;

const time = z.int().nullable();

export const batchSchema = z.object({
  id: z.string(),
  object: z.literal("batch"),
  endpoint: z.string(),
  model: z.string().nullable().openapi({ description: "Where all of its requests name one." }),
  errors: z.object({
    object: z.literal("list"),
    data: z.array(z.object({
      code: z.string(),
      message: z.string(),
      param: z.string().nullable(),
      line: z.int().nullable(),
    })),
  }).nullable(),
  input_file_id: z.string(),
  completion_window: z.string(),
  status: z.enum(BATCH_STATUSES),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: z.int(),
  in_progress_at: time,
  expires_at: z.int(),
  finalizing_at: time,
  completed_at: time,
  failed_at: time,
  expired_at: time,
  cancelling_at: time,
  cancelled_at: time,
  request_counts: z.object({ total: z.int(), completed: z.int(), failed: z.int() }),
  usage: z.object({
    input_tokens: z.int(),
    input_tokens_details: z.object({ cached_tokens: z.int() }),
    output_tokens: z.int(),
    output_tokens_details: z.object({ reasoning_tokens: z.int() }),
    total_tokens: z.int(),
  }),
  metadata: z.record(z.string(), z.string()).nullable(),
}).openapi("Batch");
type BatchBody = z.output<typeof batchSchema>;

export const batchListSchema = z.object({
  object: z.literal("list"),
  data: z.array(batchSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
}).openapi("BatchList");

export const batchQuerySchema = z.strictObject({
  after: z.string().optional(),
  limit: limitField(100),
});

export function batchBody(batch: BatchRecord): BatchBody {
  const { errors, usage: { inputTokens, cachedTokens, outputTokens } } = batch;
  return {
    id: batch.id,
    object: "batch",
    endpoint: batch.endpoint,
    model: batch.model,
    errors: errors.length === 0 ? null : { object: "list", data: [...errors] },
    input_file_id: batch.inputFile,
    completion_window: "24h",
    status: batch.status,
    output_file_id: batch.outputFile,
    error_file_id: batch.errorFile,
    created_at: unixSeconds(batch.createdAt),
    in_progress_at: unixSeconds(batch.inProgressAt),
    expires_at: unixSeconds(batch.expiresAt),
    finalizing_at: unixSeconds(batch.finalizingAt),
    completed_at: unixSeconds(batch.completedAt),
    failed_at: unixSeconds(batch.failedAt),
    expired_at: unixSeconds(batch.expiredAt),
    cancelling_at: unixSeconds(batch.cancellingAt),
    cancelled_at: unixSeconds(batch.cancelledAt),
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    usage: {
      input_tokens: inputTokens,
      input_tokens_details: { cached_tokens: cachedTokens },
      output_tokens: outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: inputTokens + outputTokens,
    },
    metadata: batch.metadata,
  };
}
