/** Opens the store where it lies: SQLite in a data directory, or a PostgreSQL server. */
import { syncDirectory } from "../../src/checkpoint/fetch/cache.ts";
import { DataDirectory } from "./data_directory.ts";
import { SqliteDatabase } from "./database/sqlite_database.ts";
import type { StoreLog } from "./log.ts";
import { Store } from "./store.ts";

export type StoreLocation =
  | { readonly type: "directory"; readonly path: string }
  | { readonly type: "url"; readonly url: string };

/**
 * @throws {Error} where another process has the directory, it cannot be made, or no server answers;
 *   {TypeError} for a URL that cannot be one
 */
export function openStore(location: StoreLocation, log: StoreLog): Promise<Store> {
  switch (location.type) {
    case "directory":
      return openDirectory(location.path, log);
    case "url":
      return openUrl(location.url, log);
  }
}

async function openUrl(url: string, log: StoreLog): Promise<Store> {
  // its client takes a tenth of a second to load, which a start on SQLite need not wait for
  const { PostgresDatabase } = await import("./database/postgres_database.ts");
  const database = await PostgresDatabase.open(url, (error) => {
    log.warning(`lost a connection to the database: ${error.message}`);
  });
  try {
    return await Store.open({ database, log });
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}

async function openDirectory(root: string, log: StoreLog): Promise<Store> {
  const directory = await DataDirectory.open(root);
  try {
    await makeFile(root, directory.database);
    return await openFile(directory.database, log, () => directory[Symbol.dispose]());
  } catch (cause) {
    directory[Symbol.dispose]();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(
      `Cannot use the data directory ${root}: ${directory.database}: ${reason}. ` +
        "Choose another one with --data.",
      { cause },
    );
  }
}

/** For its owner alone: it has the secret that keys are hashed with. SQLite's other files follow it. */
async function makeFile(root: string, path: string): Promise<void> {
  (await Deno.open(path, { append: true, create: true, mode: 0o600 })).close();
  await syncDirectory(root);
}

async function openFile(path: string, log: StoreLog, onClosed: () => void): Promise<Store> {
  const database = await SqliteDatabase.open(path, (error) => {
    log.warning(`${error.message}; another one has taken over, and what was under way has failed`);
  });
  try {
    return await Store.open({ database, log, onClosed });
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}
