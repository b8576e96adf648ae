/** A backup that is taken while others write holds one moment of the store, and is restored whole. */
import { assertEquals, assertGreater, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { openStore } from "../../../adapters/store/open_store.ts";
import { restoreBackup } from "../../../adapters/store/backup.ts";
import { addFile, coreFile, readText } from "./cases.ts";
import { keepingLog, openTestStore } from "./test_store.ts";

async function withDirectory(body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempDir();
  try {
    await body(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

/** A backup that is cut short or changed leaves nothing behind. */
async function refuseDamaged(archive: string, at: string): Promise<void> {
  const whole = await Deno.readFile(archive);
  const changed = whole.slice();
  const middle = whole.length >> 1;
  changed[middle] = (changed[middle] ?? 0) ^ 1;
  const [damaged, target] = [`${at}/damaged.db`, `${at}/new`];
  for (const bytes of [whole.subarray(0, middle), whole.subarray(0, 100), changed]) {
    await Deno.writeFile(damaged, bytes);
    await assertRejects(() => restoreBackup(damaged, target), TypeError, "no whole backup");
    const left = [...Deno.readDirSync(target)].map(({ name }) => name);
    assertEquals(left, ["lock"]);
  }
}

/** A backup is a plain SQLite file, and a plain copy of one is restored, too. */
async function openByHand(archive: string, at: string): Promise<void> {
  const copy = `${at}/vacuumed.db`;
  using database = new DatabaseSync(archive, { readOnly: true });
  assertEquals(database.prepare("PRAGMA integrity_check").get(), { integrity_check: "ok" });
  database.prepare("VACUUM INTO ?").run(copy);
  await restoreBackup(copy, `${at}/by-hand`);
  const other = new DatabaseSync(`${at}/other.db`);
  other.exec("CREATE TABLE theirs (a)");
  other.close();
  const restore = () => restoreBackup(`${at}/other.db`, `${at}/others`);
  await assertRejects(restore, TypeError, "it is a database of another program");
}

Deno.test("a backup that is not there is named, and no directory is made for it", async () => {
  const root = await Deno.makeTempDir({ prefix: "lembas-backup-" });
  try {
    const restoring = restoreBackup(`${root}/none.db`, `${root}/new`);
    await assertRejects(() => restoring, RangeError, "none.db: there is no such file");
    await assertRejects(() => Deno.stat(`${root}/new`), Deno.errors.NotFound);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("a backup taken while others write is restored to what was there, or refused", () =>
  withDirectory(async (at) => {
    const [archive, restored] = [`${at}/backup.db`, `${at}/restored`];
    const { bytes, digest } = coreFile(1);
    const before: string[] = [];
    {
      await using opened = await openTestStore();
      const { store } = opened;
      await store.cores.put("default", "bot", bytes, { source: "test", publish: "now" });
      for (let i = 0; i < 5; i++) before.push(await addFile(store, "default", `before ${i}`));
      let writing = true;
      const writer = (async () => {
        let count = 0;
        while (writing) await addFile(store, "default", `meanwhile ${count++}`.repeat(5000));
        return count;
      })();
      const done = await store.backup(archive);
      writing = false;
      assertGreater(await writer, 0);
      const { size, mode } = await Deno.stat(archive);
      assertEquals([size, (mode ?? 0) & 0o777], [done.bytes, 0o600]);
      const files = [...Deno.readDirSync(opened.path)].filter(({ name }) =>
        name.startsWith("lembas")
      );
      const modes = files.map(({ name }) => Deno.statSync(`${opened.path}/${name}`).mode ?? 0);
      assertEquals(modes.map((mode) => mode & 0o777), [0o600, 0o600, 0o600]);
      // and the store works on, and can be backed up again
      await addFile(store, "default", "after");
      await store.backup(archive);
    }
    await refuseDamaged(archive, at);
    await openByHand(archive, at);
    await restoreBackup(archive, restored);
    await assertRejects(() => restoreBackup(archive, restored), RangeError, "holds a store");
    const log = keepingLog();
    await using store = await openStore({ type: "directory", path: restored }, log);
    const { files } = store.forTenant("default");
    for (const [i, id] of before.entries()) {
      assertEquals(await readText(files, id), `before ${i}`);
    }
    assertEquals(await store.cores.bytes(digest), bytes);
    await addFile(store, "default", "and on");
    assertEquals(log.warnings, []);
  }));
