/**
 * The administrator's endpoints for cores of all tenants, usage and the backup.
 * Factor sets, tenants and keys have files of their own.
 */
import type { CoreVersion, UsageQuery, UsageTotal } from "../../../adapters/store/store.ts";
import type { App, AppContext } from "../../context.ts";
import { get, list } from "../endpoint.ts";
import { ApiError } from "../../errors.ts";
import {
  adminUsageQuerySchema,
  usageListSchema,
  usageQuerySchema,
  type UsageTotalBody,
} from "../schema/admin_usage.ts";
import { adminCoreQuerySchema, coreListSchema } from "../schema/cores.ts";
import { ADMIN_TAG, type AdminServices } from "./admin_context.ts";
import { registerAdminFactors } from "./admin_factors.ts";
import { registerAdminKeys } from "./admin_keys.ts";
import { registerAdminTenants } from "./admin_tenants.ts";
import { coreBody } from "./cores.ts";

export function registerAdmin(app: App, services: AdminServices): void {
  registerAdminTenants(app, services);
  registerAdminKeys(app, services);
  registerCores(app, services);
  registerUsage(app, services);
  registerAdminFactors(app, services);
  registerBackup(app, services);
}

function registerCores(app: App, { store }: AdminServices): void {
  list(app, {
    method: "get",
    path: "/v1/admin/cores",
    tag: ADMIN_TAG,
    summary: "Lists cores of all tenants, or of one, by name.",
    query: adminCoreQuerySchema,
    ok: { description: "The current version of each.", json: coreListSchema },
  }, async (c, { tenant, after, limit = 100, order = "asc" }) => {
    const { items, hasMore } = await store.cores.list(tenant, { after, limit, order });
    const data = items.map((core: CoreVersion) => coreBody(core));
    return c.json({ object: "list", data, has_more: hasMore });
  });
}

function registerUsage(app: App, services: AdminServices): void {
  list(app, {
    method: "get",
    path: "/v1/admin/usage",
    tag: ADMIN_TAG,
    summary: "Adds up tokens by tenant, model or day.",
    query: adminUsageQuerySchema,
    ok: { description: "The sums.", json: usageListSchema },
  }, (c, { tenant, from, to, by = "tenant" }) => usage(c, services, { tenant, from, to, by }));
  list(app, {
    method: "get",
    path: "/v1/usage",
    tag: "usage",
    summary: "Adds up the tenant's tokens by day or model.",
    query: usageQuerySchema,
    ok: { description: "The sums.", json: usageListSchema },
    scopes: ["infer", "train"],
  }, (c, { from, to, by = "day" }) => {
    const { tenant } = c.get("principal");
    return usage(c, services, { tenant, from, to, by });
  });
}

async function usage(
  c: AppContext,
  { store }: AdminServices,
  { from, to, ...query }: UsageQuery,
): Promise<Response> {
  const totals = await store.usage.total({
    ...query,
    from: from === undefined ? undefined : 1000 * from,
    to: to === undefined ? undefined : 1000 * to,
  });
  return c.json({ object: "list", data: totals.map(usageBody) });
}

function usageBody(total: UsageTotal): UsageTotalBody {
  return {
    object: "usage.total",
    key: total.key,
    requests: total.requests,
    prompt_tokens: total.promptTokens,
    cached_tokens: total.cachedTokens,
    completion_tokens: total.completionTokens,
    trained_tokens: total.trainedTokens,
  };
}

function registerBackup(app: App, { store }: AdminServices): void {
  get(app, {
    method: "get",
    path: "/v1/admin/backup",
    tag: ADMIN_TAG,
    summary: "A backup of the embedded store as it is now: a SQLite database.",
    ok: { description: "The database file.", text: ["application/octet-stream"] },
    errors: [400],
  }, async () => {
    if (store.kind === "postgres") {
      throw new ApiError(
        400,
        "Cannot back up a PostgreSQL store from here: use PostgreSQL's own tools (pg_dump).",
        { code: "not_embedded" },
      );
    }
    return await backup(store);
  });
}

/** Written to a file first, which has no name any more when it is sent. */
async function backup(store: Pick<AdminServices["store"], "backup">): Promise<Response> {
  const path = await Deno.makeTempFile({ prefix: "lembas-backup-" });
  try {
    const { bytes } = await store.backup(path);
    const file = await Deno.open(path);
    return new Response(file.readable, {
      headers: {
        "content-type": "application/octet-stream",
        "content-length": String(bytes),
        "content-disposition": 'attachment; filename="lembas-backup.db"',
      },
    });
  } finally {
    await Deno.remove(path);
  }
}
