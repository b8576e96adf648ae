/**
 * Shapes of `/v1/admin/tenants` and their keys: lembas' own, in the manner of OpenAI's. A key's text
 * is in one answer only, that to its making.
 */
import { z } from "@hono/zod-openapi";
import { SCOPES, TENANT_ID } from "../../../adapters/store/store.ts";
import { limitField } from "./files.ts";

/** A count that a database's integer holds. */
const count = z.int().min(0).max(2 ** 31 - 1);

const limitFields = {
  requests_per_minute: count.min(1).nullable(),
  tokens_per_minute: count.min(1).nullable(),
  concurrency: count.min(1).nullable().openapi({ description: "Requests that run at once." }),
  queued: count.nullable().openapi({ description: "Requests that wait." }),
  stored_bytes: z.int().min(0).nullable().openapi({
    description: "Bytes of files, cores, checkpoints and stored responses together.",
  }),
  weight: z.number().gt(0).max(1e6).openapi({
    description: "Share of the device beside others'.",
  }),
  priority: z.int().min(-1000).max(1000).openapi({ description: "Lower is served sooner." }),
} as const;

export const limitsSchema = z.strictObject(limitFields).openapi("TenantLimits", {
  description: "null = no limit.",
});
export type LimitsBody = z.output<typeof limitsSchema>;

/** Limits that change; what is left out stays. */
export const changedLimitsSchema = limitsSchema.partial();
export type ChangedLimits = z.output<typeof changedLimitsSchema>;

export const tenantIdField = z.string().regex(
  TENANT_ID,
  "letters, digits, '.', '-' and '_', at most 64, and no '.' or '-' in front",
);

export const createTenantSchema = z.strictObject({
  id: tenantIdField,
  limits: changedLimitsSchema.optional(),
}).openapi("CreateTenantRequest");

export const updateTenantSchema = z.strictObject({
  limits: changedLimitsSchema.openapi({ description: "What is left out stays as it is." }),
}).openapi("UpdateTenantRequest");

export const tenantSchema = z.object({
  id: z.string(),
  object: z.literal("tenant"),
  created_at: z.int(),
  limits: limitsSchema,
}).openapi("Tenant");
export type TenantBody = z.output<typeof tenantSchema>;

export const tenantDetailSchema = tenantSchema.extend({
  stored_bytes: z.int().openapi({ description: "What it stores now." }),
}).openapi("TenantDetail");

export const tenantListSchema = z.object({
  object: z.literal("list"),
  data: z.array(tenantSchema),
  has_more: z.boolean(),
}).openapi("TenantList");

export const tenantDeletedSchema = z.object({
  id: z.string(),
  object: z.literal("tenant"),
  deleted: z.literal(true),
}).openapi("TenantDeleted");

/** Seconds: until the year 2100. */
const LAST_SECOND = 4_102_444_800;

/** Text that every database keeps as it is. */
export const plainText = z.string().max(200).regex(
  // deno-lint-ignore no-control-regex -- these are what it refuses
  /^[^\x00-\x1f\x7f]*$/,
  "no control characters",
);

export const createKeySchema = z.strictObject({
  name: plainText.optional().openapi({ description: "What people call it." }),
  scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length).optional().openapi({
    description: "`infer` (the default), `train`; `admin` administers the whole server.",
  }),
  expires_at: z.int().min(1).max(LAST_SECOND).nullish().openapi({ description: "Unix seconds." }),
}).openapi("CreateKeyRequest");
export type CreateKeyBody = z.output<typeof createKeySchema>;

export const keySchema = z.object({
  id: z.string(),
  object: z.literal("api_key"),
  tenant: z.string(),
  name: z.string(),
  hint: z.string().openapi({ description: "The key's first characters." }),
  scopes: z.array(z.enum(SCOPES)),
  created_at: z.int(),
  expires_at: z.int().nullable(),
  revoked_at: z.int().nullable(),
}).openapi("ApiKey");
export type KeyBody = z.output<typeof keySchema>;

export const issuedKeySchema = keySchema.extend({
  key: z.string().openapi({ description: "The key itself: it is told here once and not kept." }),
}).openapi("IssuedApiKey");

export const keyListSchema = z.object({
  object: z.literal("list"),
  data: z.array(keySchema),
  has_more: z.boolean(),
}).openapi("ApiKeyList");

export const adminPageSchema = z.strictObject({
  after: z.string().optional().openapi({ description: "The id behind which the page begins." }),
  limit: limitField(1000),
  order: z.enum(["asc", "desc"]).optional(),
});
