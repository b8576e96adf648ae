/**
 * What lembas keeps, for whom: the store's interface as servers, runners and tools see it. It owns
 * the whole and the rule of tenancy; each kind of record has its own file beside this one, and where
 * they lie is the implementation's (one SQL schema, on SQLite or PostgreSQL).
 *
 * The rule: what belongs to a tenant is reached by naming that tenant. `store.forTenant("acme")`
 * gives acme's files, jobs and models; another tenant's ids are unknown there. Keys, cores and usage
 * take the tenant as an argument. Factor sets are shared: they are weights of nobody.
 *
 * Records are JSON values: what is absent is null. Times are Unix milliseconds. Whatever a promise
 * here has resolved for survives the death of the process.
 */
import type { Database } from "./database/database.ts";
import type { Changes } from "./changes.ts";
import type { CoreStore, FactorStore } from "./core_store.ts";
import type { FileStore } from "./file_store.ts";
import type { JobDirectory, JobStore } from "./job_store.ts";
import type { ModelDirectory, ModelStore } from "./model_store.ts";
import type { KeyStore, TenantStore } from "./tenant_store.ts";
import type { UsageStore } from "./usage_store.ts";

export * from "./changes.ts";
export * from "./core_store.ts";
export * from "./file_store.ts";
export * from "./job_store.ts";
export * from "./model_store.ts";
export * from "./paging.ts";
export * from "./quota_error.ts";
export * from "./tenant_store.ts";
export * from "./usage_store.ts";

/** One tenant's part. Writing for a tenant that is not there throws RangeError. */
export interface TenantData {
  readonly tenant: string;
  readonly files: FileStore;
  readonly jobs: JobStore;
  readonly models: ModelStore;
}

export interface Store extends AsyncDisposable {
  readonly kind: "sqlite" | "postgres";
  /** The database beneath, for a queue on the same one. */
  readonly database: Database;
  /** A view; it reads nothing yet, and a tenant that is not there has nothing. */
  forTenant(tenant: string): TenantData;
  /** For the server's own work and for administrators: jobs of all tenants. */
  readonly jobs: JobDirectory;
  /** For the server's own work: published models of all tenants. No route reads it. */
  readonly models: ModelDirectory;
  readonly tenants: TenantStore;
  readonly keys: KeyStore;
  readonly cores: CoreStore;
  readonly factors: FactorStore;
  readonly usage: UsageStore;
  readonly changes: Changes;
  /** Resolves when the database answers. @throws {Error} where it does not, within a few seconds */
  ping(): Promise<void>;
  /**
   * Writes a backup of the embedded store to a file, while it serves: a SQLite database that
   * `restoreBackup` (backup.ts) takes. PostgreSQL has its
   * own tools.
   * @throws {TypeError} on PostgreSQL
   */
  backup(path: string): Promise<{ readonly bytes: number }>;
}
