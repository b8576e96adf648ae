/**
 * Puts a backup of the embedded store into a data directory, before it is served from. It owns the
 * check that the archive is whole; the next start makes the database of it.
 */
import { createHash, type Hash } from "node:crypto";
import { createTarDecoder, type ParsedTarEntry } from "modern-tar";
import {
  exists,
  parentOf,
  removeIfThere,
  syncDirectory,
} from "../../src/checkpoint/fetch/cache.ts";
import { DIGEST_ENTRY } from "./backup.ts";
import { DATABASE, DataDirectory } from "./data_directory.ts";

const RESTORING = "database.restoring";
/** Names of a database's own files. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\/?$/;

/**
 * Restores what `Store.backup` wrote into the data directory `root`, whole or not at all.
 * @throws {RangeError} where a store is there already; {TypeError} for what is no whole backup;
 *   {Error} where another process has the directory
 */
export async function restoreBackup(path: string, root: string): Promise<void> {
  using directory = await DataDirectory.open(root);
  const [data, partial] = [directory.path(DATABASE), directory.path(RESTORING)];
  if (await exists(data)) {
    throw new RangeError(
      `Cannot restore into ${root}: it holds a store already. Choose an empty directory.`,
    );
  }
  await removeIfThere(partial);
  try {
    await Deno.mkdir(partial);
    await unpack(path, partial);
    await Deno.rename(partial, data);
    await syncDirectory(root);
  } catch (error) {
    await removeIfThere(partial);
    throw error;
  }
}

async function unpack(path: string, to: string): Promise<void> {
  using file = await Deno.open(path, { read: true });
  const hash = createHash("sha256");
  let digest: string | undefined;
  const entries = file.readable.pipeThrough(createTarDecoder({ strict: true }));
  try {
    for await (const entry of entries) {
      if (entry.header.name === DIGEST_ENTRY) digest = await new Response(entry.body).text();
      else await unpackEntry(entry, to, hash);
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`Cannot restore ${path}: it is no whole backup: ${reason}`, { cause });
  }
  if (digest === hash.digest("hex")) return;
  throw new TypeError(
    `Cannot restore ${path}: it is no whole backup: its digest is ${digest ?? "missing"}`,
  );
}

async function unpackEntry(
  { header: { name, type }, body }: ParsedTarEntry,
  to: string,
  hash: Hash,
): Promise<void> {
  if (!NAME.test(name) || name.includes("..")) throw new TypeError(`it has a file '${name}'`);
  if (type === "directory") {
    await body.cancel();
    return await Deno.mkdir(`${to}/${name}`, { recursive: true, mode: 0o700 });
  }
  await Deno.mkdir(parentOf(`${to}/${name}`), { recursive: true });
  using file = await Deno.open(`${to}/${name}`, { write: true, createNew: true });
  for await (const bytes of body) {
    hash.update(bytes);
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  }
  await file.sync();
}
