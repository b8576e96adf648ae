/**
 * Cores with versions, and factor sets: content known by its digest, names that point to it. It owns
 * the records and interfaces; what is in a core is `format.ts`'s.
 */
import type { AdapterVersion } from "../catalog/name.ts";
import type { Page, PageQuery } from "./paging.ts";

/** One version of a core under a tenant's name. */
export interface CoreVersion {
  readonly tenant: string;
  readonly name: string;
  /** From 1; never used again, even after removal. */
  readonly version: number;
  /** Of the core, its base and its factor set, hex. */
  readonly digest: string;
  readonly base: string;
  readonly factors: string;
  readonly rank: number;
  /** Of the core file. */
  readonly bytes: number;
  readonly createdAt: number;
  /** Where it came from, for people. */
  readonly source: string;
  /** "quarantined": its content is not what was stored; it cannot be loaded. */
  readonly state: "stored" | "quarantined";
  /** Whether the bare name stands for this version. */
  readonly current: boolean;
}

export interface CoreStore {
  /**
   * Keeps a core file as the name's next version; the same digest under the same name is the same
   * version (and mends it, where it was quarantined). `publish` "now" makes it current, "later"
   * leaves the name as it is.
   * @throws {TypeError} for what is no core file or no name; {RangeError} where the tenant is not
   *   there; {QuotaError} where it may store no more
   */
  put(
    tenant: string,
    name: string,
    bytes: Uint8Array,
    meta: { readonly source: string; readonly publish: "now" | "later" },
  ): Promise<CoreVersion>;
  /** Makes a version current. @throws {FieldRangeError} where it is not there or quarantined */
  publish(tenant: string, name: string, version: number): Promise<CoreVersion>;
  /** Makes the version before the current one current. @throws {FieldRangeError} if there is none */
  rollback(tenant: string, name: string): Promise<CoreVersion>;
  /**
   * "latest" = the current version; undefined where there is none.
   * @throws {RangeError} where a digest prefix fits more than one version
   */
  resolve(tenant: string, name: string, version: AdapterVersion): Promise<CoreVersion | undefined>;
  /**
   * Current versions by tenant and name, or the newest where none is current. undefined = of all
   * tenants, for administrators. `after` is `tenant/name`, need not exist, and `order` "asc" is
   * alphabetical.
   */
  list(tenant: string | undefined, page: PageQuery): Promise<Page<CoreVersion>>;
  /** Newest first; empty for an unknown name. */
  versions(tenant: string, name: string): Promise<readonly CoreVersion[]>;
  /**
   * Removes a version, or all with undefined; returns how many. Where the current one goes, the name
   * stands for the version before it (or, without one, for nothing).
   */
  remove(tenant: string, name: string, version: number | undefined): Promise<number>;
  /** The core file; its digest is checked. @throws {RangeError | TypeError} gone, or quarantined */
  bytes(digest: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** A factor set as lists show it. */
export interface FactorRecord {
  readonly digest: string;
  readonly bytes: number;
  readonly createdAt: number;
}

export interface FactorStore {
  /** Keeps a factor file; the same digest again changes nothing. */
  add(digest: string, file: Uint8Array): Promise<void>;
  /** Undefined where there is none, or it is damaged (then it is quarantined and logged). */
  get(digest: string): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Oldest first. */
  list(): Promise<readonly FactorRecord[]>;
}
