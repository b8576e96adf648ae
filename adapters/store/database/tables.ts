/**
 * The tables as kysely types them: what each column holds. `migrations/` makes them; what rows mean
 * is the stores'. Times are Unix milliseconds; 64-bit columns are numbers on both databases.
 */
import type { Generated, GeneratedAlways } from "kysely";

/** A JSON text. */
type Json = string;
type Bytes = Uint8Array;

export interface TenantTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly createdAt: number;
  readonly limits: Json;
  readonly storedBytes: Generated<number>;
}

export interface KeyTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly name: string;
  readonly hint: string;
  readonly hash: Bytes;
  readonly scopes: Json;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
}

export interface UsageTable {
  readonly id: string;
  readonly at: number;
  readonly tenant: string;
  readonly keyId: string | null;
  readonly model: string;
  readonly kind: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly trainedTokens: number;
  readonly requestId: string;
}

export interface SecretTable {
  readonly name: string;
  readonly bytes: Bytes;
}

export interface ContentTable {
  readonly id: GeneratedAlways<number>;
  readonly bytes: number;
  readonly sha256: string;
  readonly arrivingAt: number | null;
}

export interface ChunkTable {
  readonly content: number;
  readonly seq: number;
  readonly data: Bytes;
}

export interface FileTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly filename: string;
  readonly purpose: string;
  readonly createdAt: number;
  readonly content: number;
  /** null = it stays until it is deleted. */
  readonly expiresAt: number | null;
}

export interface UploadTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly status: string;
  readonly expiresAt: number;
  readonly record: Json;
}

export interface UploadPartTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly upload: string;
  readonly content: number;
}

export interface FactorTable {
  readonly digest: string;
  readonly seq: GeneratedAlways<number>;
  readonly createdAt: number;
  readonly state: string;
  readonly content: number;
}

export interface CoreTable {
  readonly digest: string;
  readonly base: string;
  /** Of a LoRA, which has none: "". */
  readonly factors: string;
  readonly rank: number;
  /** Of a LoRA, by module; null = it is a core. */
  readonly ranks: Json | null;
  readonly state: string;
  readonly content: number;
}

export interface CoreNameTable {
  readonly tenant: string;
  readonly name: string;
  readonly current: number | null;
  readonly latest: number;
}

export interface CoreVersionTable {
  readonly tenant: string;
  readonly name: string;
  readonly version: number;
  readonly digest: string;
  readonly bytes: number;
  readonly createdAt: number;
  readonly source: string;
}

export interface JobTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly status: string;
  readonly record: Json;
}

export interface JobEventTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly job: string;
  readonly record: Json;
}

export interface JobProgressTable {
  readonly job: string;
  readonly content: number;
}

export interface CheckpointTable {
  readonly job: string;
  readonly step: number;
  readonly record: Json;
  readonly core: string;
  readonly bytes: number;
}

export interface ModelTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly name: string;
  readonly version: number;
  readonly record: Json;
}

export interface BatchTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly status: string;
  readonly inputFile: string;
  readonly record: Json;
}

/** Lines of an unfinished batch that have run. */
export interface BatchResultTable {
  readonly batch: string;
  readonly line: number;
  /** 0 or 1. */
  readonly failed: number;
  /** A line of the output file, or of the error file. */
  readonly data: Bytes;
}

export interface ResponseTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly previous: string | null;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly bytes: number;
  readonly chainBytes: number;
  readonly input: string;
  readonly output: string;
  readonly body: string;
  readonly runningUntil: number | null;
}

export interface ChatTable {
  readonly id: string;
  readonly seq: GeneratedAlways<number>;
  readonly tenant: string;
  readonly model: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly bytes: number;
  readonly metadata: string;
  readonly messages: string;
  readonly body: string;
}

export interface ConversationTable {
  readonly id: string;
  readonly tenant: string;
  readonly createdAt: number;
  /** With its items. */
  readonly bytes: number;
  readonly metadata: string;
}

export interface ConversationItemTable {
  readonly seq: GeneratedAlways<number>;
  readonly conversation: string;
  readonly id: string;
  readonly body: string;
}

/** SQLite's queue of jobs; PostgreSQL's is pg-boss's. */
export interface QueueTable {
  readonly seq: GeneratedAlways<number>;
  readonly queue: string;
  readonly job: string;
  readonly tenant: string;
  readonly createdAt: number;
  /** Not taken before. */
  readonly startAt: number;
  /** Of whoever has taken it; null = it waits. */
  readonly claim: string | null;
}

export interface Tables {
  readonly tenants: TenantTable;
  readonly keys: KeyTable;
  readonly usage: UsageTable;
  readonly secrets: SecretTable;
  readonly contents: ContentTable;
  readonly chunks: ChunkTable;
  readonly files: FileTable;
  readonly uploads: UploadTable;
  readonly uploadParts: UploadPartTable;
  readonly batches: BatchTable;
  readonly batchResults: BatchResultTable;
  readonly factorSets: FactorTable;
  readonly cores: CoreTable;
  readonly coreNames: CoreNameTable;
  readonly coreVersions: CoreVersionTable;
  readonly jobs: JobTable;
  readonly jobEvents: JobEventTable;
  readonly jobProgress: JobProgressTable;
  readonly checkpoints: CheckpointTable;
  readonly models: ModelTable;
  readonly responses: ResponseTable;
  readonly chats: ChatTable;
  readonly conversations: ConversationTable;
  readonly conversationItems: ConversationItemTable;
  readonly queue: QueueTable;
}
