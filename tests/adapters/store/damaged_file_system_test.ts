/** A database file whose pages are broken: what lies on them is named and set aside, the rest serves. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DamagedError } from "../../../adapters/store/errors.ts";
import { openStore } from "../../../adapters/store/open_store.ts";
import { restoreBackup } from "../../../adapters/store/backup.ts";
import { addFile, readText, textBytes } from "./cases.ts";
import { keepingLog, newDataDirectory } from "./test_store.ts";

const PAGE = 8192;
const LONG = "what is written on many pages, one after the other; ".repeat(2000);

/** Breaks the chain of a long content: a page of it names a next one that is not there. */
async function breakChain(file: string): Promise<void> {
  const bytes = await Deno.readFile(file);
  const inside = textBytes(LONG.slice(0, 40));
  const isPart = (page: number) => {
    const text = new TextDecoder().decode(bytes.subarray(page + 4, page + PAGE));
    return text.includes(new TextDecoder().decode(inside));
  };
  const pages = Array.from({ length: bytes.length / PAGE }, (_, i) => i * PAGE).filter(isPart);
  const middle = pages[pages.length >> 1];
  assert(middle !== undefined && pages.length > 5);
  new DataView(bytes.buffer).setUint32(middle, 999_999);
  await Deno.writeFile(file, bytes);
}

Deno.test("what lies on a broken page is refused by name, and the rest is served", async () => {
  const path = await newDataDirectory();
  const location = { type: "directory", path } as const;
  try {
    const ids: string[] = [];
    {
      await using store = await openStore(location, keepingLog());
      for (const text of ["short", LONG]) ids.push(await addFile(store, "default", text));
    }
    await breakChain(`${path}/lembas.db`);
    const log = keepingLog();
    await using store = await openStore(location, log);
    const { files } = store.forTenant("default");
    const [short, long] = ids;
    const error = await assertRejects(() => readText(files, long ?? ""), DamagedError);
    assertStringIncludes(error.message, `Cannot read ${long}: the database cannot read it`);
    assertEquals(await readText(files, short ?? ""), "short");
    // no backup is written of what cannot be read
    await assertRejects(() => store.backup(`${path}/backup.db`), Error, "malformed");
    assertEquals([...Deno.readDirSync(path)].filter(({ name }) => name.includes("backup")), []);
    // and a copy of such a file is no backup
    await Deno.copyFile(`${path}/lembas.db`, `${path}/copy`);
    await assertRejects(() => restoreBackup(`${path}/copy`, `${path}/new`), TypeError, "no whole");
    assert(await files.remove(short ?? ""));
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
