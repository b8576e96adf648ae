/**
 * Opens the store where it lies: PGlite in a data directory, or a PostgreSQL server. It owns the
 * directory's lock and layout (`lock`, `database/`), and what an interrupted first start left there.
 */
import {
  exists,
  removeIfThere,
  syncDirectory,
  writeAtomically,
} from "../../src/checkpoint/fetch/cache.ts";
import { PgliteDatabase } from "./database/pglite_database.ts";
import { PostgresDatabase } from "./database/postgres_database.ts";
import { pgliteBackups } from "./backup.ts";
import { DATABASE, DataDirectory } from "./data_directory.ts";
import type { StoreLog } from "./log.ts";
import { SqlStore } from "./sql_store.ts";
import type { Store } from "./store.ts";

export type StoreLocation =
  | { readonly type: "directory"; readonly path: string }
  | { readonly type: "url"; readonly url: string };

/** There while the first start makes the database: nothing in that was promised to anyone. */
const MAKING = "database.making";
/** Folders of the store before this one. */
const EARLIER = ["files", "jobs", "models"] as const;

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
  const database = await PostgresDatabase.open(url, (error) => {
    log.warning(`lost a connection to the database: ${error.message}`);
  });
  const backup = () =>
    Promise.reject(
      new TypeError("Cannot back a PostgreSQL server up from here: use pg_dump or its own backups"),
    );
  try {
    return await SqlStore.open({ database, log, backup });
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}

async function openDirectory(path: string, log: StoreLog): Promise<Store> {
  const directory = await DataDirectory.open(path);
  const [data, making] = [directory.path(DATABASE), directory.path(MAKING)];
  try {
    if (await exists(making)) await removeIfThere(data);
    const isNew = !await exists(data);
    if (isNew) await nameEarlier(directory, log);
    if (isNew) await writeAtomically(making, "");
    const store = await openOver(data, log, () => directory[Symbol.dispose]());
    if (isNew) await finishMaking(directory.root, making);
    return store;
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

async function openOver(data: string, log: StoreLog, onClosed: () => void): Promise<SqlStore> {
  const database = await PgliteDatabase.open(data, ({ message }) => log.warning(message));
  try {
    const backup = pgliteBackups(database, data);
    return await SqlStore.open({ database, log, backup, onClosed });
  } catch (error) {
    await database[Symbol.asyncDispose]();
    throw error;
  }
}

/** What versions before the SQL store have left is named, not read. */
async function nameEarlier(directory: DataDirectory, log: StoreLog): Promise<void> {
  for (const name of EARLIER) {
    if (!await exists(directory.path(name))) continue;
    log.warning(`${directory.path(name)} is of an earlier version and is not read`);
  }
}

/** The database's own files are durable before the mark goes. */
async function finishMaking(root: string, making: string): Promise<void> {
  await syncDirectory(root);
  await removeIfThere(making);
  await syncDirectory(root);
}
