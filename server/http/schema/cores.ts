/** Shapes of `/v1/cores`: a tenant's cores and their versions, lembas' own. */
import { z } from "@hono/zod-openapi";
import { limitField } from "./files.ts";

export const coreVersionSchema = z.object({
  object: z.literal("core.version"),
  id: z.string().openapi({ description: "`tenant/name@version`: what `model` may say." }),
  tenant: z.string(),
  name: z.string(),
  version: z.int(),
  digest: z.string(),
  base: z.string().openapi({ description: "Digest of its base model." }),
  kind: z.enum(["core", "lora"]).openapi({ description: "`lora`: it has A and B of its own." }),
  factors: z.string().nullable().openapi({
    description: "Digest of a core's factor set; null for a LoRA.",
  }),
  rank: z.int().openapi({ description: "A LoRA's highest." }),
  bytes: z.int(),
  created_at: z.int(),
  source: z.string(),
  state: z.enum(["stored", "quarantined"]).openapi({
    description: "`quarantined`: its content is not what was stored; it is not served.",
  }),
  current: z.boolean().openapi({
    description: "Whether the name without a version stands for it.",
  }),
}).openapi("CoreVersion");
export type CoreVersionBody = z.output<typeof coreVersionSchema>;

export const coreListSchema = z.object({
  object: z.literal("list"),
  data: z.array(coreVersionSchema),
  has_more: z.boolean(),
}).openapi("CoreVersionList");

export const putCoreSchema = z.strictObject({
  cores: z.string().min(1).openapi({ description: "A core or LoRA file (safetensors), base64." }),
  publish: z.enum(["now", "later"]).optional().openapi({
    description: "`now` (the default) makes it what the name stands for.",
  }),
}).openapi("PutCoreRequest");

export const putLoraSchema = z.strictObject({
  config: z.string().openapi({ description: "adapter_config.json, as PEFT wrote it." }),
  publish: z.enum(["now", "later"]).optional(),
  file: z.string().openapi({ format: "binary", description: "adapter_model.safetensors." }),
}).openapi("PutLoraRequest");

export const publishCoreSchema = z.strictObject({ version: z.int().min(1).max(2 ** 31 - 1) })
  .openapi("PublishCoreRequest");

export const coreDeletedSchema = z.object({
  object: z.literal("core"),
  name: z.string(),
  deleted: z.int().openapi({ description: "How many versions were removed." }),
}).openapi("CoreDeleted");

export const coreQuerySchema = z.strictObject({
  after: z.string().optional().openapi({ description: "The name behind which the page begins." }),
  limit: limitField(1000),
  order: z.enum(["asc", "desc"]).optional(),
});

export const adminCoreQuerySchema = coreQuerySchema.extend({
  after: z.string().optional().openapi({ description: "`tenant/name`." }),
  tenant: z.string().optional(),
});
