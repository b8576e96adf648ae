/** Shapes of `/v1/usage`, `/v1/admin/usage` and the factor sets: lembas' own. */
import { z } from "@hono/zod-openapi";

/** Unix seconds in a query string. */
const second = z.string().regex(/^\d{1,10}$/, "it must be Unix seconds").transform(Number)
  .optional() as z.ZodType<number | undefined, string | undefined>;

export const usageQuerySchema = z.strictObject({
  from: second.openapi({ description: "Unix seconds, inclusive." }),
  to: second.openapi({ description: "Unix seconds, exclusive." }),
  by: z.enum(["model", "day"]).optional().openapi({ description: "Default: `day`." }),
});

export const adminUsageQuerySchema = usageQuerySchema.extend({
  tenant: z.string().optional(),
  by: z.enum(["tenant", "model", "day"]).optional().openapi({ description: "Default: `tenant`." }),
});

export const usageTotalSchema = z.object({
  object: z.literal("usage.total"),
  key: z.string().openapi({ description: "The tenant, the model or the day (UTC)." }),
  requests: z.int(),
  prompt_tokens: z.int(),
  cached_tokens: z.int(),
  completion_tokens: z.int(),
  trained_tokens: z.int(),
}).openapi("UsageTotal");
export type UsageTotalBody = z.output<typeof usageTotalSchema>;

export const usageListSchema = z.object({
  object: z.literal("list"),
  data: z.array(usageTotalSchema),
}).openapi("UsageTotalList");

export const factorSetSchema = z.object({
  object: z.literal("factor_set"),
  digest: z.string(),
  bytes: z.int(),
  created_at: z.int(),
}).openapi("FactorSet");
export type FactorSetBody = z.output<typeof factorSetSchema>;

export const factorSetFormSchema = z.strictObject({
  file: z.string().openapi({ format: "binary", description: "A factor file (safetensors)." }),
}).openapi("CreateFactorSetRequest");

export const factorSetDeletedSchema = z.object({
  object: z.literal("factor_set"),
  digest: z.string(),
  deleted: z.literal(true),
}).openapi("FactorSetDeleted");

export const factorSetListSchema = z.object({
  object: z.literal("list"),
  data: z.array(factorSetSchema),
}).openapi("FactorSetList");
