/** What holds of backups on any database that makes its own; a server has its own tools. */
import { assertEquals, assertRejects } from "@std/assert";
import { openStore } from "../../../adapters/store/open_store.ts";
import { restoreBackup } from "../../../adapters/store/backup.ts";
import type { StoredResponse } from "../../../adapters/store/store.ts";
import { addFile, type Cases, readText } from "./cases.ts";
import { keepingLog } from "./test_store.ts";

/** Restores an archive into a directory, and reads a file and a response from it. */
async function restored(archive: string, at: string, tenant: string, file: string) {
  await restoreBackup(archive, at);
  await using store = await openStore({ type: "directory", path: at }, keepingLog());
  const { files, responses } = store.forTenant(tenant);
  return { text: await readText(files, file), response: await responses.find(RESPONSE.id) };
}

const RESPONSE: StoredResponse = {
  ...{ id: "resp_backed", previous: null, createdAt: Date.now(), expiresAt: Date.now() + 1e9 },
  ...{ input: "[]", output: "[]", body: "{}", runningUntil: null },
};

export const BACKUP_CASES: Cases = {
  "backups that are asked for at once are each whole": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const id = await addFile(store, tenant, "before");
    await store.forTenant(tenant).responses.add(RESPONSE);
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
      const found = await restored(`${path}.db`, path, tenant, id);
      assertEquals(found, { text: "before", response: RESPONSE });
    }
    await Deno.remove(at, { recursive: true });
  },
};
