/**
 * Who a request acts for: a tenant, and what it may do. It owns what a scope allows and whose models
 * are seen; how a key becomes a principal is `auth.ts`'s.
 */
import { DEFAULT_TENANT } from "../../adapters/catalog/name.ts";
import { type Scope, SCOPES } from "../../adapters/store/store.ts";
import { ApiError } from "../http/errors.ts";

/** The header by which an administrator, or a client in open mode, acts for a tenant. */
export const TENANT_HEADER = "lembas-tenant";

export interface Principal {
  /** Whose files, jobs, models and prefix cache the request uses. */
  readonly tenant: string;
  readonly scopes: ReadonlySet<Scope>;
  /** The key's id, for usage and logs; null = in open mode, or the key of `--api-key`. */
  readonly keyId: string | null;
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

/** Whether a tenant's models are there for it: its own, for administrators anyone's. */
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
