/** `/v1/admin/tenants`: who is served, and within which limits. */
import { unixSeconds } from "../../../src/util/time.ts";
import { z } from "@hono/zod-openapi";
import { DEFAULT_TENANT } from "../../../adapters/catalog/name.ts";
import type { TenantLimits, TenantRecord } from "../../../adapters/store/store.ts";
import type { App, AppContext } from "../../context.ts";
import { get, list, post } from "../endpoint.ts";
import { ApiError, refusing } from "../../errors.ts";
import {
  adminPageSchema,
  type ChangedLimits,
  createTenantSchema,
  type LimitsBody,
  type TenantBody,
  tenantDeletedSchema,
  tenantDetailSchema,
  tenantListSchema,
  tenantSchema,
  updateTenantSchema,
} from "../schema/admin_tenants.ts";
import { ADMIN_TAG, type AdminServices, noSuch } from "./admin_context.ts";

const TENANTS = "/v1/admin/tenants";
const TENANT = `${TENANTS}/{tenant}`;
const params = z.object({ tenant: z.string() });

export function registerAdminTenants(app: App, services: AdminServices): void {
  const { tenants } = services.store;
  list(app, {
    method: "get",
    path: TENANTS,
    tag: ADMIN_TAG,
    summary: "Lists tenants, newest first.",
    query: adminPageSchema,
    ok: { description: "A page of tenants.", json: tenantListSchema },
  }, async (c, { after, limit = 100, order = "desc" }) => {
    const { items, hasMore } = await tenants.list({ after, limit, order });
    return c.json({ object: "list", data: items.map(tenantBody), has_more: hasMore });
  });
  post(app, {
    method: "post",
    path: TENANTS,
    tag: ADMIN_TAG,
    summary: "Adds a tenant.",
    body: createTenantSchema,
    ok: { description: "The tenant.", json: tenantSchema },
    errors: [409],
  }, async (c, { id, limits = {} }) => {
    const asked = { id, limits: toLimits(limits) };
    return c.json(tenantBody(await tenants.create(asked)));
  });
  registerOne(app, services);
}

function registerOne(app: App, services: AdminServices): void {
  const { tenants } = services.store;
  get(app, {
    method: "get",
    path: TENANT,
    tag: ADMIN_TAG,
    summary: "Describes a tenant, and how much it stores.",
    params,
    ok: { description: "The tenant.", json: tenantDetailSchema },
  }, async (c) => {
    const tenant = await findTenant(c, services);
    return c.json({ ...tenantBody(tenant), stored_bytes: await tenants.storedBytes(tenant.id) });
  });
  post(app, {
    method: "post",
    path: TENANT,
    tag: ADMIN_TAG,
    summary: "Changes a tenant's limits.",
    params,
    body: updateTenantSchema,
    ok: { description: "The tenant.", json: tenantSchema },
    errors: [409],
  }, async (c, { limits }) => {
    const tenant = await admitTenant(c, services);
    const changed = { ...tenant, limits: { ...tenant.limits, ...toLimits(limits) } };
    await tenants.update(changed);
    return c.json(tenantBody(changed));
  });
  get(app, {
    method: "delete",
    path: TENANT,
    tag: ADMIN_TAG,
    summary: "Removes a tenant with its keys, files, jobs and cores; its usage stays.",
    params,
    ok: { description: "That it is removed.", json: tenantDeletedSchema },
    errors: [400],
  }, async (c) => {
    const { id } = await findTenant(c, services);
    if (id === DEFAULT_TENANT) {
      throw new ApiError(400, `The tenant '${DEFAULT_TENANT}' cannot be removed.`, {
        param: "tenant",
        code: "default_tenant",
      });
    }
    await tenants.remove(id);
    return c.json({ id, object: "tenant", deleted: true });
  });
}

/** @throws {ApiError} 404 where the path names none */
export async function findTenant(c: AppContext, { store }: AdminServices): Promise<TenantRecord> {
  const id = c.req.param("tenant") ?? "";
  const tenant = await store.tenants.find(id);
  if (tenant === undefined) throw noSuch("tenant", id);
  return tenant;
}

/** The tenant that a change is for. @throws {ApiError} 404 where there is none, and none is made */
export async function admitTenant(c: AppContext, { admit }: AdminServices): Promise<TenantRecord> {
  const id = c.req.param("tenant") ?? "";
  const tenant = await refusing("tenant", () => admit(id));
  if (tenant === undefined) throw noSuch("tenant", id);
  return tenant;
}

function tenantBody({ id, createdAt, limits }: TenantRecord): TenantBody {
  return { id, object: "tenant", created_at: unixSeconds(createdAt), limits: limitsBody(limits) };
}

function limitsBody(limits: TenantLimits): LimitsBody {
  return {
    requests_per_minute: limits.requestsPerMinute,
    tokens_per_minute: limits.tokensPerMinute,
    concurrency: limits.concurrency,
    queued: limits.queued,
    stored_bytes: limits.storedBytes,
    weight: limits.weight,
    priority: limits.priority,
  };
}

/** Only the given fields. Null is a value: no limit. */
export function toLimits(body: ChangedLimits): Partial<TenantLimits> {
  const pairs = {
    requestsPerMinute: body.requests_per_minute,
    tokensPerMinute: body.tokens_per_minute,
    concurrency: body.concurrency,
    queued: body.queued,
    storedBytes: body.stored_bytes,
    weight: body.weight,
    priority: body.priority,
  };
  return Object.fromEntries(
    Object.entries(pairs).filter(([, value]) => value !== undefined),
  ) as Partial<TenantLimits>;
}
