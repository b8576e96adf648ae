/** The data directory: where it is, and that one process at a time has it, by a lock on a file. */
import { exists, parentOf, syncDirectory } from "../../src/checkpoint/fetch/cache.ts";
import type { Environment } from "../../src/util/cache_directory.ts";

const LOCK_FILE = "lock";
const DATABASE = "lembas.db";
/** Of versions before SQLite. */
const EARLIER = "database";

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
  readonly #root: string;
  readonly #lock: Deno.FsFile;

  private constructor(root: string, lock: Deno.FsFile) {
    this.#root = root;
    this.#lock = lock;
  }

  /**
   * Makes the directory where it is missing, and takes its lock, which ends with the process.
   * @throws {Error} naming the directory, and the process that has it, or what of an earlier version
   *   is there
   */
  static async open(root: string): Promise<DataDirectory> {
    const lock = await openLock(root);
    if (!await lock.tryLock(true)) {
      const holder = new TextDecoder().decode(await readSome(lock)).trim();
      lock.close();
      throw new Error(
        `Cannot use the data directory ${root}: process ${holder || "(unknown)"} has it. ` +
          "Choose another one with --data.",
      );
    }
    if (await exists(`${root}/${EARLIER}`)) {
      lock.close();
      throw new Error(
        `Cannot use the data directory ${root}: ${EARLIER}/ in it is of a version of lembas before ` +
          "SQLite, which this one cannot read. Choose another one with --data.",
      );
    }
    await lock.truncate();
    await lock.write(new TextEncoder().encode(`${Deno.pid}\n`));
    return new DataDirectory(root, lock);
  }

  /** The path of the database's file. */
  get database(): string {
    return `${this.#root}/${DATABASE}`;
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

async function readSome(file: Deno.FsFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(64);
  return bytes.subarray(0, await file.read(bytes) ?? 0);
}
