/** Stores for tests, on SQLite in directories of the tests' own. */
import { openStore } from "../../../adapters/store/open_store.ts";
import type { StoreLog } from "../../../adapters/store/log.ts";
import type { Store } from "../../../adapters/store/store.ts";

/** A log that keeps its warnings. */
export function keepingLog(): StoreLog & { readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  return { info: () => {}, warning: (message) => void warnings.push(message), warnings };
}

/** A new empty directory; the caller removes it. */
export function newDataDirectory(): Promise<string> {
  return Deno.makeTempDir({ prefix: "lembas-store-" });
}

/** An empty store; closing it removes its directory. */
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
