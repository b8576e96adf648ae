/** Uploaded and made files of one tenant: records and interface. What they contain it does not know. */
import type { Page, PageQuery } from "./paging.ts";

export const FILE_PURPOSES = ["fine-tune", "fine-tune-results"] as const;
export type FilePurpose = typeof FILE_PURPOSES[number];

export interface FileRecord {
  readonly id: string;
  readonly filename: string;
  readonly purpose: FilePurpose;
  readonly bytes: number;
  /** Unix milliseconds; rising from record to record. */
  readonly createdAt: number;
  /** Of the content, hex. */
  readonly sha256: string;
}

/** Content that has arrived but is no file yet; disposing of it takes it away again. */
export interface StagedFile extends AsyncDisposable {
  readonly bytes: number;
  commit(as: Pick<FileRecord, "filename" | "purpose">): Promise<FileRecord>;
}

/** Of one tenant. */
export interface FileStore {
  /**
   * Takes content in as it comes; what `content` throws leaves nothing behind.
   * @throws {RangeError} where the tenant is not there; {QuotaError} where it may store no more
   */
  stage(content: AsyncIterable<Uint8Array>): Promise<StagedFile>;
  find(id: string): Promise<FileRecord | undefined>;
  /** @throws {RangeError} where `after` names no file of the list. */
  list(query: PageQuery & { readonly purpose: string | undefined }): Promise<Page<FileRecord>>;
  /**
   * The content as it is read, in pieces of a megabyte: no file is in memory whole. Where it is not
   * what was written, its end is a TypeError.
   * @throws {RangeError} for an unknown id.
   */
  open(id: string): Promise<ReadableStream<Uint8Array>>;
  /** Whether there was such a file. */
  remove(id: string): Promise<boolean>;
}
