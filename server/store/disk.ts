/** The store in a data directory: files, jobs and models under one lock. It owns their opening. */
import { syncDirectory } from "../../src/checkpoint/cache.ts";
import type { Log } from "../log.ts";
import { DataDirectory } from "./data_directory.ts";
import { DiskFileStore } from "./disk_files.ts";
import { DiskJobStore } from "./disk_jobs.ts";
import { DiskModelStore } from "./disk_models.ts";
import type { Store } from "./store.ts";

const FOLDERS = ["files", "jobs", "models", "factors"] as const;

/**
 * Takes the directory and reads what is there; damaged records are set aside and named in the log.
 * @throws {Error} where another process has it, or it cannot be made
 */
export async function openDiskStore(root: string, log: Log): Promise<Store> {
  const directory = await DataDirectory.open(root, log);
  try {
    for (const folder of FOLDERS) await Deno.mkdir(directory.path(folder), { recursive: true });
    await syncDirectory(directory.root);
    return {
      files: await DiskFileStore.open(directory),
      jobs: await DiskJobStore.open(directory, log),
      models: await DiskModelStore.open(directory),
      [Symbol.asyncDispose]: () => {
        directory[Symbol.dispose]();
        return Promise.resolve();
      },
    };
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}
