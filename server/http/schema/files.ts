/** Shapes of `/v1/files`, which are OpenAI's, and how a file's record shows in them. */
import { z } from "@hono/zod-openapi";
import { FILE_PURPOSES, type FileRecord, UPLOAD_PURPOSES } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";

export const fileSchema = z.object({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.int(),
  created_at: z.int(),
  filename: z.string(),
  purpose: z.enum(FILE_PURPOSES),
  status: z.literal("processed"),
  expires_at: z.int().optional(),
}).openapi("File");
export type FileBody = z.output<typeof fileSchema>;

export function fileBody(file: FileRecord): FileBody {
  const { id, bytes, createdAt, filename, purpose, expiresAt } = file;
  return {
    id,
    object: "file",
    bytes,
    created_at: unixSeconds(createdAt),
    filename,
    purpose,
    status: "processed",
    ...(expiresAt !== null && { expires_at: unixSeconds(expiresAt) }),
  };
}

export const fileListSchema = z.object({
  object: z.literal("list"),
  data: z.array(fileSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
}).openapi("FileList");

export const fileDeletedSchema = z.object({
  id: z.string(),
  object: z.literal("file"),
  deleted: z.literal(true),
}).openapi("FileDeleted");

/** What may be uploaded; the other purposes are those of results. */
export const purposeSchema = z.enum(UPLOAD_PURPOSES).openapi({
  description:
    "Training reads `fine-tune`, batches read `batch`; files of the others are kept for " +
    "their owner, and nothing here reads them.",
});

const LIFETIME = { least: 3600, most: 2_592_000 };
const anchorSchema = z.literal("created_at");

/** When a file is to go, in JSON. */
export const expiresAfterSchema = z.strictObject({
  anchor: anchorSchema,
  seconds: z.int().min(LIFETIME.least).max(LIFETIME.most),
}).openapi("ExpiresAfter", { description: "An hour to 30 days after the file was made." });

/** What is beside the file in an upload. */
export const uploadFieldsSchema = z.strictObject({
  purpose: purposeSchema,
  expires_after: z.strictObject({
    anchor: anchorSchema,
    seconds: z.string().regex(/^\d{1,9}$/, "it must be a number").transform(Number)
      .pipe(z.int().min(LIFETIME.least).max(LIFETIME.most)),
  }).optional().openapi({
    type: "object",
    properties: { anchor: { const: "created_at" }, seconds: { type: "integer" } },
    description: "As fields `expires_after[anchor]` and `expires_after[seconds]`. " +
      "Default: the file stays until it is deleted.",
  }),
});

export const uploadFormSchema = uploadFieldsSchema.extend({
  file: z.string().openapi({
    format: "binary",
    description: "JSONL: chats or prompts with completions to train on, or a batch's requests.",
  }),
}).openapi("CreateFileRequest");

/** A number in a query string. */
export function limitField(most: number): z.ZodType<number | undefined, string | undefined> {
  return z.string().regex(/^\d{1,9}$/, "it must be a number").transform(Number)
    .pipe(z.int().min(0).max(most)).optional()
    .openapi({ type: "integer", minimum: 0, maximum: most }) as z.ZodType<
      number | undefined,
      string | undefined
    >;
}

export const fileQuerySchema = z.strictObject({
  purpose: z.string().optional(),
  limit: limitField(10_000),
  order: z.enum(["asc", "desc"]).optional(),
  after: z.string().optional(),
});
