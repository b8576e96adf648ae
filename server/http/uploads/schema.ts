/** Shapes of `/v1/uploads`, which are OpenAI's, and how records show in them. */
import { z } from "@hono/zod-openapi";
import type { FileRecord, UploadRecord } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";
import { orNull } from "../schema/common.ts";
import { expiresAfterSchema, fileBody, fileSchema, purposeSchema } from "../schema/files.ts";

export const createUploadSchema = z.strictObject({
  filename: z.string().min(1).max(255),
  bytes: z.int().min(1).openapi({ description: "Of all parts together." }),
  mime_type: z.string().min(1).max(255).regex(/^[^\s/]+\/[^\s/]+/, "it must be a media type"),
  purpose: purposeSchema,
  expires_after: expiresAfterSchema.nullish().openapi({
    description: "Default: the file stays until it is deleted.",
  }),
}).openapi("CreateUploadRequest");

export const completeUploadSchema = z.strictObject({
  part_ids: z.array(z.string().min(1)).min(1).max(10_000).openapi({
    description: "The parts in their order; together they have the bytes that were announced.",
  }),
  md5: z.string().regex(/^[0-9a-fA-F]{32}$/, "it must be 32 hexadecimal digits").nullish(),
}).openapi("CompleteUploadRequest");

export const partFormSchema = z.strictObject({
  data: z.string().openapi({ format: "binary", description: "At most 64 MiB." }),
}).openapi("AddUploadPartRequest");

export const uploadSchema = z.object({
  id: z.string(),
  object: z.literal("upload"),
  bytes: z.int(),
  created_at: z.int(),
  expires_at: z.int(),
  filename: z.string(),
  purpose: purposeSchema,
  status: z.enum(["pending", "completed", "cancelled", "expired"]),
  file: orNull(fileSchema),
}).openapi("Upload");
type UploadBody = z.output<typeof uploadSchema>;

export const uploadPartSchema = z.object({
  id: z.string(),
  object: z.literal("upload.part"),
  created_at: z.int(),
  upload_id: z.string(),
}).openapi("UploadPart");

export function uploadBody(upload: UploadRecord, file: FileRecord | undefined): UploadBody {
  return {
    id: upload.id,
    object: "upload",
    bytes: upload.bytes,
    created_at: unixSeconds(upload.createdAt),
    expires_at: unixSeconds(upload.expiresAt),
    filename: upload.filename,
    purpose: purposeSchema.parse(upload.purpose),
    status: upload.status,
    file: file === undefined ? null : fileBody(file),
  };
}
