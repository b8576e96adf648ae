/**
 * Tenants, their limits and their keys. It owns the records and interfaces; a key's text is never
 * here, only its hash, and who checks keys is the server.
 */
import type { Page, PageQuery } from "./paging.ts";

/** What a key may be used for. */
export const SCOPES = ["infer", "train", "admin"] as const;
export type Scope = typeof SCOPES[number];

/** As a name's first part: letters, digits, `.`, `-`, `_`; at most 64 (`adapters/catalog/name.ts`). */
export const TENANT_ID = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/** null = no limit. */
export interface TenantLimits {
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
  /** Requests that run at once. */
  readonly concurrency: number | null;
  /** Requests that wait. */
  readonly queued: number | null;
  /** Bytes of files, cores and checkpoints together. */
  readonly storedBytes: number | null;
  /** Share of the device beside others'; above 0. */
  readonly weight: number;
  /** Lower is served sooner. */
  readonly priority: number;
}

export const NO_LIMITS: TenantLimits = {
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrency: null,
  queued: null,
  storedBytes: null,
  weight: 1,
  priority: 0,
};

export interface TenantRecord {
  readonly id: string;
  readonly createdAt: number;
  readonly limits: TenantLimits;
}

/** The tenant "default" is there from the beginning. */
export interface TenantStore {
  /** @throws {FieldError} for an id that cannot be one; {ConflictError} if it is taken */
  create(tenant: { id: string; limits?: Partial<TenantLimits> }): Promise<TenantRecord>;
  /** Finds a tenant or makes it, without limits. @throws {FieldError} as `create` does */
  ensure(id: string): Promise<TenantRecord>;
  find(id: string): Promise<TenantRecord | undefined>;
  /** @throws {RangeError} where `after` names no tenant */
  list(page: PageQuery): Promise<Page<TenantRecord>>;
  /** Replaces the limits. @throws {RangeError} where there is no such tenant */
  update(tenant: Pick<TenantRecord, "id" | "limits">): Promise<void>;
  /** With all it has: keys, files, jobs, models, cores; usage stays. Whether there was one. */
  remove(id: string): Promise<boolean>;
  /** Bytes it stores, as its limit counts them. */
  storedBytes(id: string): Promise<number>;
  /** The same of many in one question; who is not there is left out. */
  storedBytesOf(ids: readonly string[]): Promise<ReadonlyMap<string, number>>;
}

export interface KeyRecord {
  /** `key_…` */
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  /** The key's first characters, to tell keys apart. */
  readonly hint: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
}

export interface KeyStore {
  /** @throws {RangeError} where the tenant is not there */
  create(
    key: Pick<KeyRecord, "tenant" | "name" | "hint" | "scopes" | "expiresAt">,
    hash: Uint8Array,
  ): Promise<KeyRecord>;
  /** Revoked and expired ones too: the caller judges. */
  findByHash(hash: Uint8Array): Promise<KeyRecord | undefined>;
  /** @throws {RangeError} where `after` names no key of the tenant */
  list(tenant: string, page: PageQuery): Promise<Page<KeyRecord>>;
  find(tenant: string, id: string): Promise<KeyRecord | undefined>;
  /** Whether there was such a key that was not revoked. Told as a change of kind "key". */
  revoke(tenant: string, id: string): Promise<boolean>;
  /** How many keys there are that are neither revoked nor expired, of all tenants. */
  countUsable(): Promise<number>;
  /** 32 random bytes, made once and the same for every process on the store: keys are hashed with it. */
  secret(): Promise<Uint8Array<ArrayBuffer>>;
}
