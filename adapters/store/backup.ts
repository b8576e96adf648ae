/**
 * Backups of the embedded store while it serves: PostgreSQL's own way, files copied as they are and
 * the log that makes them whole. It owns the archive: a tar of the database's directory, `backup_label`
 * and the log behind it, and at its end the digest of all of that. Restoring is `restore.ts`'s.
 */
import { createHash, type Hash } from "node:crypto";
import { createTarPacker, type TarPackController } from "modern-tar";
import {
  parentOf,
  removeIfThere,
  syncDirectory,
  temporaryBeside,
} from "../../src/checkpoint/fetch/cache.ts";
import type { PgliteDatabase } from "./database/pglite_database.ts";
import type { Store } from "./store.ts";

/** The last entry: SHA-256, hex, of the other entries' contents in their order. */
export const DIGEST_ENTRY = "lembas-backup.sha256";

const LOG = "pg_wal";
/** What belongs to a process, not to the data. */
const PASSED_OVER: ReadonlySet<string> = new Set(["postmaster.pid", "postmaster.opts"]);
const PIECE = 2 ** 20;

/**
 * Writes backups of the database in `directory`, each whole or not at all. One that is asked for
 * while another is under way comes after it: the database takes one at a time, and its log must not
 * be cleared before the last is through.
 */
export function pgliteBackups(database: PgliteDatabase, directory: string): Store["backup"] {
  let last: Promise<unknown> = Promise.resolve();
  return (path) => {
    const backup = last.then(() => writeBackup(database, directory, path));
    last = backup.catch(() => {});
    return backup;
  };
}

/** @throws {Error} where the file cannot be written */
async function writeBackup(
  database: PgliteDatabase,
  directory: string,
  path: string,
): Promise<{ readonly bytes: number }> {
  const temporary = temporaryBeside(path);
  // what the log says since the start is needed whole
  await database.upkeep("off");
  try {
    await writeArchive(database, directory, temporary);
    const { size: bytes } = await Deno.stat(temporary);
    await Deno.rename(temporary, path);
    await syncDirectory(parentOf(await Deno.realPath(path)));
    return { bytes };
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  } finally {
    await database.upkeep("on");
  }
}

async function writeArchive(
  database: PgliteDatabase,
  directory: string,
  path: string,
): Promise<void> {
  const { readable, controller } = createTarPacker();
  // it holds what keys are hashed with: nobody else reads it
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  const written = writeAll(readable, file);
  try {
    await fill(new Archive(controller), database, directory);
    controller.finalize();
  } catch (error) {
    controller.error(error);
  }
  await written;
  await file.sync();
}

async function fill(
  archive: Archive,
  database: PgliteDatabase,
  directory: string,
): Promise<void> {
  await database.executeSql("SELECT pg_backup_start('lembas', true)");
  let label: string | undefined;
  try {
    await archive.addTree(directory, "", (name) => name !== LOG && !PASSED_OVER.has(name));
  } finally {
    const { rows } = await database.executeSql("SELECT labelfile FROM pg_backup_stop(false)");
    label = rows[0]?.labelfile;
  }
  archive.addDirectory(LOG);
  await archive.addTree(directory, LOG, () => true);
  await archive.addBytes("backup_label", new TextEncoder().encode(label));
  await archive.end();
}

class Archive {
  readonly #controller: TarPackController;
  readonly #hash: Hash = createHash("sha256");

  constructor(controller: TarPackController) {
    this.#controller = controller;
  }

  /** Everything below `root/prefix` whose path below `root` is wanted, by name. */
  async addTree(root: string, prefix: string, wanted: (path: string) => boolean): Promise<void> {
    const entries = await Array.fromAsync(Deno.readDir(`${root}/${prefix}`));
    for (const { name, isDirectory } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
      const path = prefix === "" ? name : `${prefix}/${name}`;
      if (!wanted(path)) continue;
      if (!isDirectory) await this.#addFile(root, path);
      else {
        this.addDirectory(path);
        await this.addTree(root, path, wanted);
      }
    }
  }

  addDirectory(name: string): void {
    this.#controller.add({ name: `${name}/`, type: "directory", size: 0 }).close();
  }

  async addBytes(name: string, bytes: Uint8Array): Promise<void> {
    await this.#add(name, bytes.length, (write) => write(bytes));
  }

  async end(): Promise<void> {
    await this.addBytes(DIGEST_ENTRY, new TextEncoder().encode(this.#hash.digest("hex")));
  }

  /** A file as long as it is now: what is torn or grows meanwhile, the log mends. */
  async #addFile(root: string, path: string): Promise<void> {
    using file = await openIfThere(`${root}/${path}`);
    if (file === undefined) return;
    const { size } = await file.stat();
    await this.#add(path, size, async (write) => {
      for (let left = size; left > 0;) {
        const piece = new Uint8Array(Math.min(PIECE, left));
        const read = await file.read(piece);
        // a file that has become shorter ends in zeros
        const part = read === null ? piece : piece.subarray(0, read);
        await write(part);
        left -= part.length;
      }
    });
  }

  async #add(
    name: string,
    size: number,
    body: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const writer = this.#controller.add({ name, size, type: "file" }).getWriter();
    await body(async (bytes) => {
      if (name !== DIGEST_ENTRY) this.#hash.update(bytes);
      await writer.write(bytes);
    });
    await writer.close();
  }
}

/** Undefined where the file has gone since it was listed. */
async function openIfThere(path: string): Promise<Deno.FsFile | undefined> {
  try {
    return await Deno.open(path, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function writeAll(from: ReadableStream<Uint8Array>, file: Deno.FsFile): Promise<void> {
  for await (const bytes of from) {
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  }
}
