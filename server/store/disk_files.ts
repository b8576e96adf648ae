/**
 * Uploaded and made files in the data directory: `files/<id>/` with `content` and `file.json`. It
 * owns their arrival (under a hidden name until whole) and their list in memory; what they contain
 * it does not know.
 */
import { createHash } from "node:crypto";
import { removeIfThere, syncDirectory } from "../../src/checkpoint/cache.ts";
import { type DataDirectory, readRecord, sha256, writeRecord } from "./data_directory.ts";
import { newId, nextTime } from "./ids.ts";
import { pageOf } from "./page.ts";
import type { FileRecord, FileStore, Page, PageQuery, StagedFile } from "./store.ts";

const FOLDER = "files";

export class DiskFileStore implements FileStore {
  readonly #directory: DataDirectory;
  /** Oldest first. */
  #files: readonly FileRecord[];

  private constructor(directory: DataDirectory, files: readonly FileRecord[]) {
    this.#directory = directory;
    this.#files = files;
  }

  /** Reads all records; a damaged one is set aside. */
  static async open(directory: DataDirectory): Promise<DiskFileStore> {
    const files: FileRecord[] = [];
    for (const id of await directory.names(FOLDER)) {
      try {
        files.push(await readFile(directory.path(FOLDER, id), id));
      } catch (error) {
        await directory.setAside([FOLDER, id], error);
      }
    }
    return new DiskFileStore(directory, files.sort((a, b) => a.createdAt - b.createdAt));
  }

  async stage(content: AsyncIterable<Uint8Array>): Promise<StagedFile> {
    const staging = this.#directory.path(FOLDER, `.${crypto.randomUUID()}`);
    await Deno.mkdir(staging);
    try {
      const written = await writeContent(`${staging}/content`, content);
      return {
        bytes: written.bytes,
        commit: (as) => this.#commit(staging, { ...as, ...written }),
        [Symbol.asyncDispose]: () => removeIfThere(staging),
      };
    } catch (error) {
      await removeIfThere(staging);
      throw error;
    }
  }

  async #commit(
    staging: string,
    described: Omit<FileRecord, "id" | "createdAt">,
  ): Promise<FileRecord> {
    const last = this.#files.at(-1)?.createdAt ?? 0;
    const record = { id: newId("file"), createdAt: nextTime(last), ...described };
    await writeRecord(`${staging}/file.json`, record);
    await Deno.rename(staging, this.#directory.path(FOLDER, record.id));
    await syncDirectory(this.#directory.path(FOLDER));
    this.#files = [...this.#files, record].sort((a, b) => a.createdAt - b.createdAt);
    return record;
  }

  find(id: string): Promise<FileRecord | undefined> {
    return Promise.resolve(this.#files.find((file) => file.id === id));
  }

  // deno-lint-ignore require-await -- so that a RangeError rejects
  async list(
    query: PageQuery & { readonly purpose: string | undefined },
  ): Promise<Page<FileRecord>> {
    const { purpose } = query;
    return pageOf(this.#files.filter((f) => purpose === undefined || f.purpose === purpose), query);
  }

  async open(id: string): Promise<ReadableStream<Uint8Array>> {
    return (await Deno.open(this.#contentOf(id))).readable;
  }

  async read(id: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await Deno.readFile(this.#contentOf(id));
    const file = this.#files.find((other) => other.id === id);
    if (file?.sha256 !== await sha256(bytes)) {
      throw new TypeError(`Cannot read ${id}: its content is not what was uploaded`);
    }
    return bytes;
  }

  async remove(id: string): Promise<boolean> {
    if (!this.#files.some((file) => file.id === id)) return false;
    this.#files = this.#files.filter((file) => file.id !== id);
    await this.#directory.remove(FOLDER, id);
    return true;
  }

  #contentOf(id: string): string {
    if (!this.#files.some((file) => file.id === id)) {
      throw new RangeError(`Cannot read ${id}: there is no such file`);
    }
    return this.#directory.path(FOLDER, id, "content");
  }
}

async function readFile(path: string, id: string): Promise<FileRecord> {
  const record = await readRecord(`${path}/file.json`) as FileRecord;
  const { size } = await Deno.stat(`${path}/content`);
  if (record.id !== id || record.bytes !== size) {
    throw new TypeError(`its content has ${size} bytes, its record (${record.id}) ${record.bytes}`);
  }
  return record;
}

async function writeContent(
  path: string,
  content: AsyncIterable<Uint8Array>,
): Promise<Pick<FileRecord, "bytes" | "sha256">> {
  using file = await Deno.open(path, { write: true, createNew: true });
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of content) {
    hash.update(chunk);
    bytes += chunk.length;
    for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
  }
  await file.sync();
  return { bytes, sha256: hash.digest("hex") };
}
