/**
 * Stores for tests: PGlite in a directory of the test's own, copied from one that was made once
 * (making a database with its queue takes seconds, copying it does not). It owns the directories.
 */
import { openStore } from "../../../adapters/store/open_store.ts";
import type { StoreLog } from "../../../adapters/store/log.ts";
import type { Store } from "../../../adapters/store/store.ts";
import { fail } from "@std/assert";
import { WorkQueues } from "../../../server/jobs/work_queue.ts";
import { createOnce } from "../../../src/checkpoint/fetch/cache.ts";

/** A log that keeps its warnings. */
export function keepingLog(): StoreLog & { readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  return { info: () => {}, warning: (message) => void warnings.push(message), warnings };
}

/** A new directory with an empty store in it, not yet open; the caller removes it. */
export async function newDataDirectory(): Promise<string> {
  const template = `${parent()}/lembas-test-store-${await fingerprint()}`;
  await createOnce(template, async (partial) => {
    await Deno.remove(partial, { recursive: true });
    await using store = await openStore({ type: "directory", path: partial }, keepingLog());
    await using _queues = await WorkQueues.open(store.database, ({ message }) => fail(message));
  });
  const path = await Deno.makeTempDir({ prefix: "lembas-store-" });
  await copy(template, path);
  return path;
}

/** An empty store on PGlite; closing it removes its directory. */
export async function openTestStore(
  log: StoreLog = keepingLog(),
): Promise<{ readonly store: Store; readonly path: string } & AsyncDisposable> {
  const path = await newDataDirectory();
  const store = await openStore({ type: "directory", path }, log);
  return {
    store,
    path,
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]();
      await Deno.remove(path, { recursive: true });
    },
  };
}

function parent(): string {
  return (Deno.env.get("TMPDIR") ?? "/tmp").replace(/\/$/, "");
}

/** Of the schema's steps and the database's version: another template for each. */
async function fingerprint(): Promise<string> {
  const directory = new URL("../../../adapters/store/database/migrations/", import.meta.url);
  const names = [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
  const texts = names.map((name) => Deno.readTextFileSync(new URL(name, directory)));
  const packages = ["@electric-sql/pglite", "pg-boss"].map((name) => import.meta.resolve(name));
  const text = [...packages, ...texts].join("\n");
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex().slice(0, 16);
}

async function copy(from: string, to: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (!isDirectory) {
      await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
      continue;
    }
    await Deno.mkdir(`${to}/${name}`);
    await copy(`${from}/${name}`, `${to}/${name}`);
  }
}
