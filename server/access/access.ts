/**
 * Who a request acts for: from its headers to a tenant and what it may do there. In open mode
 * everyone is the administrator; else the key says, one of the store's or that of `--api-key`.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { DEFAULT_TENANT } from "../../adapters/catalog/name.ts";
import {
  type Scope,
  SCOPES,
  TENANT_ID,
  type TenantRecord,
  type TenantStore,
} from "../../adapters/store/store.ts";
import type { KeyCheck } from "./key_check.ts";
import { ApiError, invalid } from "../errors.ts";

/** The header by which an administrator, or a client in open mode, acts for a tenant. */
export const TENANT_HEADER = "lembas-tenant";

/** Where clients of Anthropic's API have their key; `Authorization` wins where both are sent. */
export const API_KEY_HEADER = "x-api-key";

export interface Principal {
  /** The tenant whose files, jobs, models and prefix cache the request uses. */
  readonly tenant: string;
  readonly scopes: ReadonlySet<Scope>;
  /** The key's id, for usage and logs; null = in open mode, or the key of `--api-key`. */
  readonly keyId: string | null;
}

/**
 * That a request is a batch's line, and whom it acts for. The server hands it to its application
 * beside the request; nothing that comes over HTTP can.
 */
export interface BatchCall {
  readonly principal: Principal;
}

/** The default tenant with every scope: open mode, and the key of `--api-key`. */
export function administrator(): Principal {
  return { tenant: DEFAULT_TENANT, scopes: new Set(SCOPES), keyId: null };
}

/** Whether it administers the server: every tenant, and every scope. */
export function isAdministrator({ scopes }: Principal): boolean {
  return scopes.has("admin");
}

/** The same key as a tenant that it may act for: everything but administration. */
export function actingFor({ keyId }: Principal, tenant: string): Principal {
  return { tenant, scopes: new Set<Scope>(["infer", "train"]), keyId };
}

/** Whether it may use a tenant's models: its own tenant's; an administrator anyone's. */
export function sees(principal: Principal, tenant: string): boolean {
  return principal.tenant === tenant || isAdministrator(principal);
}

/** @throws {ApiError} 403 unless it has one of the scopes; `admin` has them all. */
export function checkScope(principal: Principal, allowed: readonly Scope[]): void {
  if (isAdministrator(principal) || allowed.some((scope) => principal.scopes.has(scope))) return;
  const needed = allowed.length === 0 ? "admin" : allowed.join("' or '");
  throw new ApiError(
    403,
    `You have insufficient permissions for this operation. This key has the scopes ` +
      `[${[...principal.scopes].join(", ")}]; it needs '${needed}'.`,
    { code: "insufficient_scope" },
  );
}

export interface Access {
  readonly mode: "open" | "keys";
  /**
   * The principal of an `Authorization` header.
   * @throws {ApiError} 401 where a key is missing or not good, 503 where the store does not
   *   answer
   */
  principal(authorization: string | undefined): Promise<Principal>;
  /**
   * The principal, acting for the tenant that its request names.
   * @throws {ApiError} 400 or 404 where it may not, 503 where the store does not answer
   */
  actAs(principal: Principal, tenant: string): Promise<Principal>;
  /**
   * The tenant under which something is about to be stored or counted; undefined where there is
   * none. Open mode makes a missing one here, so only writing makes tenants, and reading never
   * does.
   */
  admit(tenant: string): Promise<TenantRecord | undefined>;
}

/** Everyone is the administrator, whichever tenant it names. */
export function openAccess(tenants?: Pick<TenantStore, "ensure">): Access {
  return {
    mode: "open",
    principal: () => Promise.resolve(administrator()),
    actAs: (principal, tenant) =>
      TENANT_ID.test(tenant)
        ? Promise.resolve({ ...principal, tenant })
        : Promise.reject(noTenantId(tenant)),
    admit: async (tenant) => await tenants?.ensure(tenant),
  };
}

function noTenantId(tenant: string): ApiError {
  return invalid(
    TENANT_HEADER,
    `Invalid '${TENANT_HEADER}': '${tenant.slice(0, 80)}' is no tenant's name, which has 1 to 64 ` +
      "letters, digits, '.', '-' and '_' and begins with none of '.' and '-'.",
  );
}

export interface KeyAccessOptions {
  /** A key outside of the store, the administrator's. */
  readonly apiKey: string | undefined;
  /** The store's keys; undefined = there is no key but that one. */
  readonly keys?: Pick<KeyCheck, "check">;
  /** Undefined = any tenant is there. */
  readonly tenants?: Pick<TenantStore, "find">;
}

export function keyAccess({ apiKey, keys, tenants }: KeyAccessOptions): Access {
  const isApiKey = apiKey === undefined ? () => false : comparison(apiKey);
  return {
    mode: "keys",
    principal: async (authorization) => {
      const token = bearerToken(authorization);
      if (isApiKey(token)) return administrator();
      return await principalOf(token, keys);
    },
    actAs: async (principal, tenant) => {
      const may = isAdministrator(principal) && TENANT_ID.test(tenant) &&
        (tenants === undefined || await asking(() => tenants.find(tenant)) !== undefined);
      if (may) return actingFor(principal, tenant);
      throw noSuchTenant(principal, tenant);
    },
    admit: async (tenant) => await tenants?.find(tenant),
  };
}

/** Access of a server without a store: one key, or none. */
export function accessOf(apiKey: string | undefined): Access {
  return apiKey === undefined ? openAccess() : keyAccess({ apiKey });
}

/**
 * The principal of a request, acting for the tenant in its header.
 * @throws {ApiError} 401; 503; 404 for a tenant that it may not act for; 400 for what is no
 *   tenant's name
 */
export async function authenticate(access: Access, headers: Headers): Promise<Principal> {
  const key = headers.get(API_KEY_HEADER);
  const authorization = headers.get("authorization") ??
    (key === null ? undefined : `Bearer ${key}`);
  const principal = await access.principal(authorization);
  const tenant = headers.get(TENANT_HEADER);
  if (tenant === null || tenant === principal.tenant) return principal;
  return await access.actAs(principal, tenant);
}

/** A tenant's key gets the same answer whether there is such a tenant or not. */
function noSuchTenant(principal: Principal, tenant: string): ApiError {
  const make = isAdministrator(principal) ? "make it with POST /v1/admin/tenants, or " : "";
  return new ApiError(
    404,
    `There is no tenant '${tenant.slice(0, 80)}' that this key may act for; ` +
      `${make}leave out the header '${TENANT_HEADER}' to act for its own.`,
    { param: TENANT_HEADER, code: "tenant_not_found" },
  );
}

/** @throws {ApiError} 401 where there is none */
function bearerToken(authorization: string | undefined): string {
  const token = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
  if (token !== undefined) return token;
  throw unauthorized(
    "You didn't provide an API key. Send it in an Authorization header using Bearer auth " +
      `(i.e. Authorization: Bearer YOUR_KEY), or in '${API_KEY_HEADER}'.`,
    "missing_api_key",
  );
}

async function principalOf(
  token: string,
  keys: Pick<KeyCheck, "check"> | undefined,
): Promise<Principal> {
  const verdict = keys === undefined ? undefined : await asking(() => keys.check(token));
  switch (verdict?.type) {
    case "valid": {
      const { tenant, scopes, id } = verdict.key;
      return { tenant, scopes: new Set(scopes), keyId: id };
    }
    case "expired":
      throw unauthorized("This API key has expired.", "expired_api_key");
    case "revoked":
      throw unauthorized("This API key has been revoked.", "revoked_api_key");
    case "unknown":
    case undefined:
      throw unauthorized("Incorrect API key provided.", "invalid_api_key");
  }
}

/** Where the store does not answer no key is good, not even one that was good a moment ago. */
async function asking<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (cause) {
    throw new ApiError(503, "The server cannot look up API keys just now. Please retry.", {
      code: "store_unavailable",
      headers: { "retry-after": "1" },
      cause,
    });
  }
}

/**
 * Compares digests: `timingSafeEqual` needs equal lengths, and the key's own length stays hidden.
 */
function comparison(apiKey: string): (token: string) => boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const expected = digest(apiKey);
  return (token) => timingSafeEqual(digest(token), expected);
}

function unauthorized(message: string, code: string): ApiError {
  return new ApiError(401, message, { code, headers: { "www-authenticate": "Bearer" } });
}
