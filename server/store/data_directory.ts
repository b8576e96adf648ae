/**
 * The data directory: where it is, that one process at a time has it, how records lie in it so that
 * a torn or changed one is noticed, and where damaged ones are set aside. It knows no record's
 * meaning.
 */
import {
  type Environment,
  parentOf,
  removeIfThere,
  syncDirectory,
  writeAtomically,
} from "../../src/checkpoint/cache.ts";
import type { Log } from "../log.ts";

const LOCK_FILE = "lock";
const ASIDE = "aside";
const DIGEST_BYTES = 32;

/**
 * `data` under `LEMBAS_HOME`, or `lembas` under the user's data directory (XDG's on Linux).
 * @throws {TypeError} where the environment names none
 */
export function defaultDataDirectory(env: Environment): string {
  const own = env("LEMBAS_HOME");
  if (own) return `${own}/data`;
  const home = env("HOME") ?? env("USERPROFILE");
  const base = env("XDG_DATA_HOME") || env("LOCALAPPDATA") ||
    (home ? `${home}/.local/share` : undefined);
  if (base === undefined) {
    throw new TypeError("Cannot find a data directory: pass --data DIR");
  }
  return `${base}/lembas`;
}

export class DataDirectory implements Disposable {
  readonly root: string;
  readonly #lock: Deno.FsFile;
  readonly #log: Log;

  private constructor(root: string, lock: Deno.FsFile, log: Log) {
    this.root = root;
    this.#lock = lock;
    this.#log = log;
  }

  /**
   * Makes the directory where it is missing, and takes its lock, which ends with the process.
   * @throws {Error} naming the directory, and the process that has it
   */
  static async open(root: string, log: Log): Promise<DataDirectory> {
    const lock = await openLock(root);
    if (!await lock.tryLock(true)) {
      const holder = new TextDecoder().decode(await readAll(lock)).trim();
      lock.close();
      throw new Error(
        `Cannot use the data directory ${root}: process ${holder || "(unknown)"} has it. ` +
          "Choose another one with --data.",
      );
    }
    await lock.truncate();
    await lock.write(new TextEncoder().encode(`${Deno.pid}\n`));
    return new DataDirectory(root, lock, log);
  }

  /** A path below the root. */
  path(...parts: readonly string[]): string {
    return [this.root, ...parts].join("/");
  }

  /** Names in a directory, sorted, without hidden ones; those of interrupted writes are removed. */
  async names(...parts: readonly string[]): Promise<string[]> {
    const directory = this.path(...parts);
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(directory)) names.push(name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    const unfinished = (name: string) => name.startsWith(".") || name.endsWith(".tmp");
    for (const name of names.filter(unfinished)) await removeIfThere(`${directory}/${name}`);
    return names.filter((name) => !unfinished(name)).sort();
  }

  /** Removes a file or directory for good. */
  async remove(...parts: readonly string[]): Promise<void> {
    const path = this.path(...parts);
    await removeIfThere(path);
    await syncDirectory(parentOf(path));
  }

  /** Moves a damaged record out of the way, and says so. */
  async setAside(parts: readonly string[], reason: unknown): Promise<void> {
    const name = `${Date.now()}-${parts.join("-")}`;
    await Deno.mkdir(this.path(ASIDE), { recursive: true });
    await Deno.rename(this.path(...parts), this.path(ASIDE, name));
    const text = reason instanceof Error ? reason.message : String(reason);
    this.#log.warning(`set aside ${parts.join("/")} as ${ASIDE}/${name}: ${text}`);
  }

  [Symbol.dispose](): void {
    this.#lock.close();
  }
}

async function openLock(root: string): Promise<Deno.FsFile> {
  try {
    await Deno.mkdir(root, { recursive: true });
    await syncDirectory(parentOf(await Deno.realPath(root)));
    return await Deno.open(`${root}/${LOCK_FILE}`, { create: true, read: true, write: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `Cannot use the data directory ${root}: ${reason}. Choose another one with --data.`,
      { cause },
    );
  }
}

async function readAll(file: Deno.FsFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(64);
  return bytes.subarray(0, await file.read(bytes) ?? 0);
}

/** SHA-256, hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Writes a record with its digest, whole or not at all. */
export async function writeRecord(path: string, record: unknown): Promise<void> {
  const text = JSON.stringify(record);
  const digest = await sha256(new TextEncoder().encode(text));
  await writeAtomically(path, `{"sha256":"${digest}","record":${text}}\n`);
}

/** @throws {TypeError} naming the file, where it is not what `writeRecord` wrote. */
export async function readRecord(path: string): Promise<unknown> {
  const line = await Deno.readTextFile(path);
  const match = /^\{"sha256":"([0-9a-f]{64})","record":(.*)\}\n$/s.exec(line);
  const [, digest, text = ""] = match ?? [];
  if (digest !== await sha256(new TextEncoder().encode(text))) {
    throw new TypeError(`Cannot read ${path}: its content is not what was written`);
  }
  return JSON.parse(text);
}

/** Writes bytes behind their digest, whole or not at all. */
export async function writeSealed(path: string, bytes: Uint8Array): Promise<void> {
  const sealed = new Uint8Array(DIGEST_BYTES + bytes.length);
  sealed.set(bytes, DIGEST_BYTES);
  const digest = await crypto.subtle.digest("SHA-256", sealed.subarray(DIGEST_BYTES));
  sealed.set(new Uint8Array(digest));
  await writeAtomically(path, sealed);
}

/** @throws {TypeError} naming the file, where it is not what `writeSealed` wrote. */
export async function readSealed(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const sealed = await Deno.readFile(path);
  const bytes = sealed.subarray(DIGEST_BYTES);
  if (sealed.subarray(0, DIGEST_BYTES).toHex() !== await sha256(bytes)) {
    throw new TypeError(`Cannot read ${path}: its content is not what was written`);
  }
  return bytes;
}

/** Reads, or undefined where there is no such file. */
export async function ifThere<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
