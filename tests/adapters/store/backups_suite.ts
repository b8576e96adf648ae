/** What holds of backups on any database that makes its own; a server has its own tools. */
import { assertEquals, assertRejects } from "@std/assert";
import { openStore } from "../../../adapters/store/open_store.ts";
import { restoreBackup } from "../../../adapters/store/backup.ts";
import { addFile, type Cases, readText } from "./cases.ts";
import { keepingLog } from "./test_store.ts";

/** Restores an archive into a directory, and reads a file from it. */
async function restored(archive: string, at: string, tenant: string, id: string): Promise<string> {
  await restoreBackup(archive, at);
  await using store = await openStore({ type: "directory", path: at }, keepingLog());
  return await readText(store.forTenant(tenant).files, id);
}

export const BACKUP_CASES: Cases = {
  "backups that are asked for at once are each whole": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const id = await addFile(store, tenant, "before");
    const at = await Deno.makeTempDir();
    const [one, two] = [`${at}/one`, `${at}/two`];
    const backups = () => [one, two].map((path) => store.backup(`${path}.db`));
    if (store.kind === "postgres") {
      for (const backup of backups()) await assertRejects(() => backup, TypeError, "pg_dump");
      return;
    }
    const done = await Promise.allSettled(backups());
    assertEquals(done.map(({ status }) => status), ["fulfilled", "fulfilled"]);
    for (const path of [one, two]) {
      assertEquals(await restored(`${path}.db`, path, tenant, id), "before");
    }
    await Deno.remove(at, { recursive: true });
  },
};
