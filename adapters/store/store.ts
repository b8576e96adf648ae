/**
 * What lembas keeps, for whom, in one SQL schema on SQLite or PostgreSQL. Each kind of record has its
 * own file beside this one.
 *
 * What belongs to a tenant is reached by naming that tenant: `store.forTenant("acme")` gives acme's
 * files, uploads, jobs, batches, models, responses and chats; another tenant's ids are unknown there. Keys, cores and usage take the
 * tenant as an argument. Factor sets are shared: they are weights of nobody.
 *
 * Records are JSON values: what is absent is null. Times are Unix milliseconds. Whatever a promise
 * here has resolved for survives the death of the process.
 */
import { fulfilledWithin } from "../../src/util/time.ts";
import { DEFAULT_TENANT } from "../catalog/name.ts";
import { writeBackup } from "./backup.ts";
import { BatchDirectory, BatchStore } from "./batches/batches.ts";
import { Changes } from "./changes.ts";
import { sweepContents } from "./contents.ts";
import { FactorStore } from "./cores/factors.ts";
import { CoreStore } from "./cores/cores.ts";
import type { Database } from "./database/database.ts";
import { migrate } from "./database/migrate.ts";
import { FileStore, sweepFiles } from "./files.ts";
import { JobDirectory, JobStore } from "./jobs/jobs.ts";
import { KeyStore } from "./keys.ts";
import type { StoreLog } from "./log.ts";
import { ModelDirectory, ModelStore } from "./models.ts";
import { ChatStore } from "./responses/chats.ts";
import { ConversationStore } from "./responses/conversations.ts";
import { forsakeRunning, sweepKept } from "./responses/kept_rows.ts";
import { ResponseStore } from "./responses/responses.ts";
import { TenantStore } from "./tenants.ts";
import { sweepUploads, UploadStore } from "./uploads.ts";
import { UsageStore } from "./usage.ts";

export { BATCH_STATUSES } from "./batches/batch_records.ts";
export type {
  BatchError,
  BatchPatch,
  BatchRecord,
  BatchResult,
  BatchStatus,
  BatchUsage,
} from "./batches/batch_records.ts";
export { type BatchDirectory, type BatchStore, isEnded } from "./batches/batches.ts";
export type { ChangeDetail, ChangeKind, Changes } from "./changes.ts";
export type { FactorRecord, FactorStore } from "./cores/factors.ts";
export type { CoreVersion } from "./cores/core_queries.ts";
export type { CoreStore } from "./cores/cores.ts";
export { QuotaError } from "./errors.ts";
export {
  FILE_PURPOSES,
  type FilePurpose,
  type FileRecord,
  type FileStore,
  UPLOAD_PURPOSES,
} from "./files.ts";
export { JOB_STATUSES } from "./jobs/job_records.ts";
export type {
  CheckpointRecord,
  JobError,
  JobEvent,
  JobHyperparameters,
  JobPatch,
  JobRecord,
  JobStatus,
  StepMetrics,
} from "./jobs/job_records.ts";
export type { JobDirectory, JobStore } from "./jobs/jobs.ts";
export { type KeyRecord, type KeyStore, type Scope, SCOPES } from "./keys.ts";
export type { ModelDirectory, ModelStore, NewModel, PublishedModel } from "./models.ts";
export type { Page, PageQuery } from "./pages.ts";
export type { ChatMetadata, ChatStore, ListedChat, StoredChat } from "./responses/chats.ts";
export type { ConversationItem, ConversationRecord } from "./responses/conversations.ts";
export type { ResponseLinks } from "./responses/responses.ts";
export type { ResponseEnd, StoredResponse } from "./responses/response_records.ts";
export type { ResponseStore } from "./responses/responses.ts";
export { NO_LIMITS, TENANT_ID } from "./tenants.ts";
export type { TenantLimits, TenantRecord, TenantStore } from "./tenants.ts";
export type { PartRecord, UploadRecord, UploadStatus, UploadStore } from "./uploads.ts";
export type { UsageQuery, UsageRecord, UsageStore, UsageTotal } from "./usage.ts";

const PING_MS = 5000;
/** An upload of which nothing came for so long is given up, whichever process it was sent to. */
const ARRIVAL_MS = 24 * 3_600_000;
const SWEEP_MS = 3_600_000;

export interface StoreParts {
  readonly database: Database;
  readonly log: StoreLog;
  /** Milliseconds between looks for what is to be cleared away. Default: an hour. */
  readonly sweepEvery?: number;
  /** Called when the store is closed. */
  readonly onClosed?: () => void;
}

async function sweepExpired(db: Database["db"]): Promise<void> {
  await sweepUploads(db);
  await sweepFiles(db);
  await sweepKept(db, Date.now());
}

/** One tenant's part. Writing for a tenant that is not there throws RangeError. */
export interface TenantData {
  readonly tenant: string;
  readonly files: FileStore;
  readonly uploads: UploadStore;
  readonly jobs: JobStore;
  readonly batches: BatchStore;
  readonly models: ModelStore;
  readonly responses: ResponseStore;
  readonly chats: ChatStore;
  readonly conversations: ConversationStore;
}

export class Store implements AsyncDisposable {
  /** The database beneath, for a queue on the same one. */
  readonly database: Database;
  /** For the server's own work and for administrators: jobs of all tenants. */
  readonly jobs: JobDirectory;
  /** For the server's own work: batches of all tenants. No route reads it. */
  readonly batches: BatchDirectory;
  /** For the server's own work: published models of all tenants. No route reads it. */
  readonly models: ModelDirectory;
  readonly tenants: TenantStore;
  readonly keys: KeyStore;
  readonly cores: CoreStore;
  readonly factors: FactorStore;
  readonly usage: UsageStore;
  readonly changes: Changes;
  readonly #log: StoreLog;
  readonly #onClosed: (() => void) | undefined;
  #sweeper: ReturnType<typeof setInterval> | undefined;

  private constructor({ database, log, onClosed }: StoreParts, changes: Changes) {
    const { db } = database;
    this.database = database;
    this.jobs = new JobDirectory(db);
    this.batches = new BatchDirectory(db);
    this.models = new ModelDirectory(db);
    this.tenants = new TenantStore(db);
    this.keys = new KeyStore(db);
    this.cores = new CoreStore(db, log);
    this.factors = new FactorStore(db, log);
    this.usage = new UsageStore(db);
    this.changes = changes;
    this.#log = log;
    this.#onClosed = onClosed;
  }

  /** Brings the schema up to date; on failure the database stays open, for the caller to close. */
  static async open(parts: StoreParts): Promise<Store> {
    const { database, log } = parts;
    await migrate(database);
    const store = new Store(parts, await Changes.open(database, log));
    await store.tenants.ensure(DEFAULT_TENANT);
    // in a directory no upload, and no running response, outlives its process
    await sweepContents(database.db, Date.now() - (database.kind === "sqlite" ? 0 : ARRIVAL_MS));
    if (database.kind === "sqlite") await forsakeRunning(database.db);
    await sweepExpired(database.db);
    store.#sweepEvery(parts.sweepEvery ?? SWEEP_MS);
    return store;
  }

  #sweepEvery(milliseconds: number): void {
    const timer = setInterval(async () => {
      try {
        await sweepContents(this.database.db, Date.now() - ARRIVAL_MS);
        await sweepExpired(this.database.db);
      } catch (error) {
        this.#log.warning(`what has expired or was given up cannot be cleared: ${String(error)}`);
      }
    }, milliseconds);
    Deno.unrefTimer(timer);
    this.#sweeper = timer;
  }

  get kind(): Database["kind"] {
    return this.database.kind;
  }

  /** A view; it reads nothing yet, and a tenant that is not there has nothing. */
  forTenant(tenant: string): TenantData {
    const { db } = this.database;
    return {
      tenant,
      files: new FileStore(db, tenant),
      uploads: new UploadStore(db, tenant),
      batches: new BatchStore(db, tenant),
      jobs: new JobStore(this.database, tenant, this.#log),
      models: new ModelStore(db, tenant),
      responses: new ResponseStore(db, tenant),
      chats: new ChatStore(db, tenant),
      conversations: new ConversationStore(db, tenant),
    };
  }

  /** Resolves when the database answers. @throws {Error} where it does not, within a few seconds */
  async ping(): Promise<void> {
    const one = this.database.db.selectNoFrom(({ lit }) => lit(1).as("one")).execute();
    if (await fulfilledWithin(PING_MS, one)) return;
    throw new Error(`the database does not answer within ${PING_MS} ms`);
  }

  /**
   * Writes a backup of a store in a directory to a file, while it serves: a SQLite database that
   * `restoreBackup` (backup.ts) takes.
   * @throws {TypeError} on PostgreSQL, which has its own tools
   */
  async backup(path: string): Promise<{ readonly bytes: number }> {
    const { database } = this;
    if (database.kind === "sqlite") return await writeBackup(database, path);
    throw new TypeError(
      "Cannot back a PostgreSQL server up from here: use pg_dump or its own backups",
    );
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
