/**
 * Backups of the store in a directory, taken while it serves: a copy of its SQLite database as it was
 * at one moment, which any SQLite opens. Behind the database a last line has the digest of all before
 * it, which SQLite passes over and `restoreBackup` checks.
 */
import { createHash } from "node:crypto";
import {
  exists,
  parentOf,
  removeIfThere,
  syncDirectory,
  temporaryBeside,
} from "../../src/checkpoint/fetch/cache.ts";
import { DataDirectory } from "./data_directory.ts";
import type { SqliteDatabase } from "./database/sqlite_database.ts";
import { SqliteThread } from "./database/sqlite_thread.ts";
import { DamagedError } from "./errors.ts";

const SEAL = /^\nlembas backup, sha256 ([0-9a-f]{64})\n$/;
const SEAL_BYTES = sealOf("0".repeat(64)).length;
const PIECE = 2 ** 20;

function sealOf(digest: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`\nlembas backup, sha256 ${digest}\n`);
}

/**
 * Writes a backup to a file, whole or not at all.
 * @throws {Error} where the file cannot be written, or the database cannot be read
 */
export async function writeBackup(
  database: SqliteDatabase,
  path: string,
): Promise<{ readonly bytes: number }> {
  const temporary = temporaryBeside(path);
  try {
    // it has the secret that keys are hashed with: nobody else reads it
    (await Deno.open(temporary, { write: true, createNew: true, mode: 0o600 })).close();
    await database.copyTo(temporary);
    const bytes = await seal(temporary);
    await Deno.rename(temporary, path);
    await syncDirectory(parentOf(await Deno.realPath(path)));
    return { bytes };
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
}

async function seal(path: string): Promise<number> {
  using file = await Deno.open(path, { read: true, write: true });
  const { size } = await file.stat();
  const hash = createHash("sha256");
  await eachPiece(file, size, (bytes) => void hash.update(bytes));
  await writeAll(file, sealOf(hash.digest("hex")));
  await file.sync();
  return size + SEAL_BYTES;
}

/**
 * Puts a backup, or a copy of a database file, into the data directory `root`, whole or not at all.
 * @throws {RangeError} where a store is there already, or no backup; {TypeError} for what is no whole database of
 *   lembas; {Error} where another process has the directory
 */
export async function restoreBackup(path: string, root: string): Promise<void> {
  if (!await exists(path)) throw new RangeError(`Cannot restore ${path}: there is no such file`);
  using directory = await DataDirectory.open(root);
  if (await exists(directory.database)) {
    throw new RangeError(
      `Cannot restore into ${root}: it holds a store already. Choose an empty directory.`,
    );
  }
  const partial = `${directory.database}.restoring`;
  await removeIfThere(partial);
  try {
    await copyWhole(path, partial);
    await check(partial);
    await Deno.rename(partial, directory.database);
    await syncDirectory(root);
  } catch (error) {
    await removeIfThere(partial);
    if (!(error instanceof DamagedError)) throw error;
    throw new TypeError(`Cannot restore ${path}: it is no whole backup: ${error.message}`);
  }
}

async function copyWhole(from: string, to: string): Promise<void> {
  using source = await Deno.open(from, { read: true });
  using target = await Deno.open(to, { write: true, createNew: true, mode: 0o600 });
  const { size } = await source.stat();
  const expected = await readSeal(source, size);
  const hash = createHash("sha256");
  await source.seek(0, Deno.SeekMode.Start);
  await eachPiece(source, expected === undefined ? size : size - SEAL_BYTES, async (bytes) => {
    hash.update(bytes);
    await writeAll(target, bytes);
  });
  await target.sync();
  const digest = hash.digest("hex");
  if (expected !== undefined && digest !== expected) {
    throw new DamagedError(`its digest is ${digest}, and was ${expected}`);
  }
}

/** The digest at a backup's end; undefined for a plain copy, whose pages are all there is to check. */
async function readSeal(file: Deno.FsFile, size: number): Promise<string | undefined> {
  if (size < SEAL_BYTES) return undefined;
  await file.seek(size - SEAL_BYTES, Deno.SeekMode.Start);
  let text = "";
  await eachPiece(file, SEAL_BYTES, (bytes) => {
    text += String.fromCharCode(...bytes);
  });
  return SEAL.exec(text)?.[1];
}

/** Whether it is a database of lembas, and its pages hold together. */
async function check(path: string): Promise<void> {
  try {
    const thread = await SqliteThread.open(path, () => {});
    try {
      // an empty file is an empty database
      await thread.run("SELECT count(*) FROM kysely_migration", { by: "reader" });
      const { rows } = await thread.run("PRAGMA integrity_check(1)", { by: "reader" });
      const found = Object.values(rows[0] ?? {})[0];
      if (found !== "ok") throw new Error(String(found));
    } finally {
      await thread.close();
    }
  } catch (cause) {
    throw new DamagedError(cause instanceof Error ? cause.message : String(cause));
  }
}

async function eachPiece(
  file: Deno.FsFile,
  bytes: number,
  take: (bytes: Uint8Array<ArrayBuffer>) => void | Promise<void>,
): Promise<void> {
  for (let left = bytes; left > 0;) {
    const piece = new Uint8Array(Math.min(PIECE, left));
    const read = await file.read(piece);
    if (read === null) throw new Error("the file has become shorter while it was read");
    await take(piece.subarray(0, read));
    left -= read;
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}
