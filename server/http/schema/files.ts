/** Shapes of `/v1/files`, which are OpenAI's, and how a file's record shows in them. */
import { z } from "@hono/zod-openapi";
import { FILE_PURPOSES, type FileRecord } from "../../../adapters/store/store.ts";
import { unixSeconds } from "../../../src/util/time.ts";

export const fileSchema = z.object({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.int(),
  created_at: z.int(),
  filename: z.string(),
  purpose: z.enum(FILE_PURPOSES),
  status: z.literal("processed"),
}).openapi("File");
export type FileBody = z.output<typeof fileSchema>;

export function fileBody({ id, bytes, createdAt, filename, purpose }: FileRecord): FileBody {
  return {
    id,
    object: "file",
    bytes,
    created_at: unixSeconds(createdAt),
    filename,
    purpose,
    status: "processed",
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

/** What is beside the file in an upload. */
export const uploadFieldsSchema = z.strictObject({
  purpose: z.literal("fine-tune").openapi({ description: "Files here are for fine-tuning only." }),
});

export const uploadFormSchema = uploadFieldsSchema.extend({
  file: z.string().openapi({ format: "binary", description: "Chat or prompt/completion JSONL." }),
}).openapi("CreateFileRequest");

/** A number in a query string. */
export function limitField(most: number): z.ZodType<number | undefined, string | undefined> {
  return z.string().regex(/^\d{1,9}$/, "it must be a number").transform(Number)
    .pipe(z.int().min(1).max(most)).optional()
    .openapi({ type: "integer", minimum: 1, maximum: most }) as z.ZodType<
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
