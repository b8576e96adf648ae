/** `/v1/admin/tenants/{tenant}/keys`: making keys, which are told once, listing and revoking them. */
import { unixSeconds } from "../../../src/util/time.ts";
import { z } from "@hono/zod-openapi";
import type { KeyRecord } from "../../../adapters/store/store.ts";
import type { App, AppContext } from "../../context.ts";
import { get, list, post } from "../endpoint.ts";
import { invalid, refusing } from "../../errors.ts";
import { issueKey } from "../../access/keys.ts";
import {
  adminPageSchema,
  type CreateKeyBody,
  createKeySchema,
  issuedKeySchema,
  type KeyBody,
  keyListSchema,
  keySchema,
} from "../schema/admin_tenants.ts";
import { ADMIN_TAG, type AdminServices, noSuch } from "./admin_context.ts";
import { admitTenant, findTenant } from "./admin_tenants.ts";

const KEYS = "/v1/admin/tenants/{tenant}/keys";
const KEY = `${KEYS}/{key_id}`;
const ofTenant = z.object({ tenant: z.string() });
const ofKey = ofTenant.extend({ key_id: z.string() });

export function registerAdminKeys(app: App, services: AdminServices): void {
  const { keys } = services.store;
  list(app, {
    method: "get",
    path: KEYS,
    tag: ADMIN_TAG,
    summary: "Lists a tenant's keys, newest first, the revoked ones too.",
    params: ofTenant,
    query: adminPageSchema,
    ok: { description: "A page of keys, without their texts.", json: keyListSchema },
  }, async (c, { after, limit = 100, order = "desc" }) => {
    const { id } = await findTenant(c, services);
    const { items, hasMore } = await keys.list(id, { after, limit, order });
    return c.json({ object: "list", data: items.map(keyBody), has_more: hasMore });
  });
  post(app, {
    method: "post",
    path: KEYS,
    tag: ADMIN_TAG,
    summary: "Makes a key of a tenant.",
    params: ofTenant,
    body: createKeySchema,
    ok: { description: "The key, with its text.", json: issuedKeySchema },
    errors: [409],
  }, async (c, body) => {
    const { record, text } = await issue(c, services, body);
    // whatever keeps answers on their way would keep the key
    c.header("cache-control", "no-store");
    return c.json({ ...keyBody(record), key: text });
  });
  registerOne(app, services);
}

function registerOne(app: App, services: AdminServices): void {
  get(app, {
    method: "get",
    path: KEY,
    tag: ADMIN_TAG,
    summary: "Describes a key.",
    params: ofKey,
    ok: { description: "The key, without its text.", json: keySchema },
  }, async (c) => c.json(keyBody(await findKey(c, services))));
  get(app, {
    method: "delete",
    path: KEY,
    tag: ADMIN_TAG,
    summary: "Revokes a key, everywhere within a second; its record stays.",
    params: ofKey,
    ok: { description: "The key as it is now.", json: keySchema },
  }, async (c) => {
    const { tenant, id } = await findKey(c, services);
    await services.store.keys.revoke(tenant, id);
    return c.json(keyBody(await findKey(c, services)));
  });
}

/** What a key is to be. @throws {ApiError} 400 for one that has expired */
export function keyOrder(body: CreateKeyBody): Pick<KeyRecord, "name" | "scopes" | "expiresAt"> {
  const { name = "", scopes = ["infer"], expires_at: expires } = body;
  const expiresAt = expires === undefined || expires === null ? null : 1000 * expires;
  if (expiresAt !== null && expiresAt <= Date.now()) {
    throw invalid("expires_at", `Invalid 'expires_at': ${expires} is in the past.`);
  }
  return { name, scopes: [...new Set(scopes)], expiresAt };
}

async function issue(c: AppContext, services: AdminServices, body: CreateKeyBody) {
  const key = keyOrder(body);
  const { id: tenant } = await admitTenant(c, services);
  const order = { tenant, ...key };
  return await refusing("tenant", () => issueKey(services.store, services.hash, order));
}

async function findKey(c: AppContext, { store }: AdminServices): Promise<KeyRecord> {
  const id = c.req.param("key_id") ?? "";
  const key = await store.keys.find(c.req.param("tenant") ?? "", id);
  if (key === undefined) throw noSuch("key", id);
  return key;
}

function keyBody(key: KeyRecord): KeyBody {
  return {
    id: key.id,
    object: "api_key",
    tenant: key.tenant,
    name: key.name,
    hint: key.hint,
    scopes: [...key.scopes],
    created_at: unixSeconds(key.createdAt),
    expires_at: unixSeconds(key.expiresAt),
    revoked_at: unixSeconds(key.revokedAt),
  };
}
