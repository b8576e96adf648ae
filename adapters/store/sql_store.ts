/** The store over a database: all its parts on one schema. It owns their making and their end. */
import type { Database } from "./database/database.ts";
import { migrate } from "./database/migrate.ts";
import { DEFAULT_TENANT } from "../catalog/name.ts";
import { sweepContents } from "./contents.ts";
import type { StoreLog } from "./log.ts";
import { SqlChanges } from "./sql_changes.ts";
import { SqlCoreStore } from "./sql_cores.ts";
import { SqlFactorStore } from "./sql_factors.ts";
import { SqlFileStore } from "./sql_files.ts";
import { SqlJobDirectory, SqlJobStore } from "./sql_jobs.ts";
import { SqlKeyStore } from "./sql_keys.ts";
import { SqlModelDirectory, SqlModelStore } from "./sql_models.ts";
import { SqlTenantStore } from "./sql_tenants.ts";
import { SqlUsageStore } from "./sql_usage.ts";
import type { Store, TenantData } from "./store.ts";

const PING_MS = 5000;
/** An upload of which nothing came for so long is given up, whichever process it was sent to. */
const ARRIVAL_MS = 24 * 3_600_000;
const SWEEP_MS = 3_600_000;

export interface SqlStoreParts {
  readonly database: Database;
  readonly log: StoreLog;
  readonly backup: Store["backup"];
  /** Milliseconds between looks for uploads that were given up. Default: an hour. */
  readonly sweepEvery?: number;
  /** Called when the store is closed. */
  readonly onClosed?: () => void;
}

export class SqlStore implements Store {
  readonly database: Database;
  readonly kind: Store["kind"];
  readonly jobs: SqlJobDirectory;
  readonly models: SqlModelDirectory;
  readonly tenants: SqlTenantStore;
  readonly keys: SqlKeyStore;
  readonly cores: SqlCoreStore;
  readonly factors: SqlFactorStore;
  readonly usage: SqlUsageStore;
  readonly changes: SqlChanges;
  readonly backup: Store["backup"];
  readonly #log: StoreLog;
  readonly #onClosed: (() => void) | undefined;
  #sweeper: ReturnType<typeof setInterval> | undefined;

  private constructor(parts: SqlStoreParts, changes: SqlChanges) {
    const { database, log } = parts;
    const { db } = database;
    this.database = database;
    this.kind = database.kind;
    this.jobs = new SqlJobDirectory(db);
    this.models = new SqlModelDirectory(db);
    this.tenants = new SqlTenantStore(db);
    this.keys = new SqlKeyStore(db);
    this.cores = new SqlCoreStore(db, log);
    this.factors = new SqlFactorStore(db, log);
    this.usage = new SqlUsageStore(db);
    this.changes = changes;
    this.backup = parts.backup;
    this.#log = log;
    this.#onClosed = parts.onClosed;
  }

  /** Brings the schema up to date; on failure the database stays open, for the caller to close. */
  static async open(parts: SqlStoreParts): Promise<SqlStore> {
    const { database, log } = parts;
    await migrate(database);
    const store = new SqlStore(parts, await SqlChanges.open(database, log));
    await store.tenants.ensure(DEFAULT_TENANT);
    // in a directory no upload outlives its process
    await sweepContents(database.db, Date.now() - (database.kind === "sqlite" ? 0 : ARRIVAL_MS));
    store.#sweepEvery(parts.sweepEvery ?? SWEEP_MS);
    return store;
  }

  #sweepEvery(milliseconds: number): void {
    const timer = setInterval(async () => {
      try {
        await sweepContents(this.database.db, Date.now() - ARRIVAL_MS);
      } catch (error) {
        this.#log.warning(`uploads that were given up cannot be cleared: ${String(error)}`);
      }
    }, milliseconds);
    Deno.unrefTimer(timer);
    this.#sweeper = timer;
  }

  forTenant(tenant: string): TenantData {
    const { db } = this.database;
    return {
      tenant,
      files: new SqlFileStore(db, tenant),
      jobs: new SqlJobStore(this.database, tenant, this.#log),
      models: new SqlModelStore(db, tenant),
    };
  }

  async ping(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`the database does not answer within ${PING_MS} ms`)),
        PING_MS,
      );
    });
    try {
      const one = this.database.db.selectNoFrom(({ lit }) => lit(1).as("one")).execute();
      await Promise.race([one, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweeper);
    try {
      await this.changes[Symbol.asyncDispose]();
      await this.database[Symbol.asyncDispose]();
    } finally {
      this.#onClosed?.();
    }
  }
}
