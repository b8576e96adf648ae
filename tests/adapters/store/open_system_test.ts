/** Where the store lies, and who has it. */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { DataDirectory, defaultDataDirectory } from "../../../adapters/store/data_directory.ts";
import { newId } from "../../../src/util/ids.ts";
import { openStore } from "../../../adapters/store/open_store.ts";
import { pageOf } from "../../../adapters/store/pages.ts";
import { addFile, ALL, query, readText } from "./cases.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "./postgres_server.ts";
import { keepingLog, newDataDirectory } from "./test_store.ts";

Deno.test("a data directory has one holder, who is named, and keeps what was written", async () => {
  const path = await newDataDirectory();
  const location = { type: "directory", path } as const;
  try {
    let id: string;
    {
      await using store = await openStore(location, keepingLog());
      const error = await assertRejects(() => openStore(location, keepingLog()), Error);
      assertEquals(
        error.message,
        `Cannot use the data directory ${path}: process ${Deno.pid} has it. ` +
          "Choose another one with --data.",
      );
      id = await addFile(store, "default", "hello");
    }
    await using store = await openStore(location, keepingLog());
    const { files } = store.forTenant("default");
    assertEquals(await readText(files, id), "hello");
    await Deno.writeTextFile(`${path}/file`, "");
    await assertRejects(() => DataDirectory.open(`${path}/file/data`), Error, "--data");
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("a data directory of a version before SQLite is refused in one sentence", async () => {
  const path = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${path}/database`);
    const open = () => openStore({ type: "directory", path }, keepingLog());
    const { message } = await assertRejects(open, Error);
    assertEquals(
      message,
      `Cannot use the data directory ${path}: database/ in it is of a version of lembas before ` +
        "SQLite, which this one cannot read. Choose another one with --data.",
    );
    // and nothing is left of the attempt
    await Deno.remove(`${path}/database`);
    await using store = await openStore({ type: "directory", path }, keepingLog());
    assertEquals((await store.tenants.list(ALL)).items.map(({ id }) => id), ["default"]);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("a database of another program, and what is none, are left as they are", async () => {
  const path = await Deno.makeTempDir();
  const file = `${path}/lembas.db`;
  try {
    const open = () => openStore({ type: "directory", path }, keepingLog());
    await Deno.writeTextFile(file, "no database at all, though it is long enough".repeat(99));
    const none = await assertRejects(open, Error);
    assertEquals(
      none.message,
      `Cannot use the data directory ${path}: ${file}: file is not a database. ` +
        "Choose another one with --data.",
    );
    await Deno.remove(file);
    const other = new DatabaseSync(file);
    other.exec("CREATE TABLE theirs (a)");
    other.close();
    const before = await Deno.readFile(file);
    const strange = await assertRejects(open, Error);
    assertStringIncludes(strange.message, "it is a database of another program");
    assertEquals(await Deno.readFile(file), before);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test("a database that does not answer, and a URL that names none, are told apart", async () => {
  const open = (url: string) => openStore({ type: "url", url }, keepingLog());
  const refused = await assertRejects(() => open("postgres://me:secret@127.0.0.1:1/x"), Error);
  assertStringIncludes(refused.message, "Cannot use the database postgres://127.0.0.1:1/x");
  assertEquals(refused.message.includes("secret"), false);
  await assertRejects(() => open("mysql://x"), TypeError, "postgres://USER");
  for (const password of ["s3@cret", "s3/cret", "1/@s3?cret", "s3#cret"]) {
    const { message } = await assertRejects(
      () => open(`postgres://me:${password}@127.0.0.1:1/x`),
      Error,
    );
    assertEquals(/s3|cret/.test(message), false, message);
  }
});

Deno.test({
  ...onPostgres("on PostgreSQL several processes share a store, and hear of each other's changes"),
  fn: async () => {
    await using server = await startPostgres();
    const url = await server.newDatabase();
    const open = () => openStore({ type: "url", url }, keepingLog());
    // both bring the schema up to date at once
    const [one, other] = await Promise.all([open(), open()]);
    await using _one = one;
    await using _other = other;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    // the default tenant's making may be told late
    using _ = other.changes.on("tenant", (detail) => {
      if (detail.id !== "default") resolve(detail);
    });
    await one.tenants.create({ id: "acme" });
    assertEquals(await promise, { tenant: "acme", id: "acme" });
    assertEquals((await other.tenants.find("acme"))?.id, "acme");
    assertEquals(await one.keys.secret(), await other.keys.secret());
    await assertRejects(() => one.backup("/dev/null"), TypeError, "pg_dump");
  },
});

Deno.test({
  ...onPostgres("a listener that was cut off comes back, says so, and hears again"),
  fn: async () => {
    await using server = await startPostgres();
    const url = await server.newDatabase();
    await using store = await openStore({ type: "url", url }, keepingLog());
    const back = Promise.withResolvers<unknown>();
    using _back = store.changes.on("resync", back.resolve);
    await query(
      store.database,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE query LIKE 'LISTEN%' AND datname = current_database()`,
    );
    await back.promise;
    const heard = Promise.withResolvers<unknown>();
    using _heard = store.changes.on("core", heard.resolve);
    await store.changes.tell("core", { tenant: "acme", id: "bot" });
    assertEquals(await heard.promise, { tenant: "acme", id: "bot" });
  },
});

Deno.test("the data directory is the environment's", () => {
  const at = (env: Record<string, string>) => defaultDataDirectory((name) => env[name]);
  assertEquals(at({ LEMBAS_HOME: "/l", HOME: "/h" }), "/l/data");
  assertEquals(at({ XDG_DATA_HOME: "/x", HOME: "/h" }), "/x/lembas");
  assertEquals(at({ HOME: "/h" }), "/h/.local/share/lembas");
  assertThrows(() => at({}), TypeError, "--data");
});

Deno.test("ids look like OpenAI's and differ", () => {
  const ids = Array.from({ length: 100 }, () => newId("ftjob"));
  assertEquals(new Set(ids).size, 100);
  for (const id of ids) assertEquals(/^ftjob-[A-Za-z0-9]{24}$/.test(id), true);
});

Deno.test("pages of lists in memory follow one another in either order", () => {
  const items = ["a", "b", "c"].map((id) => ({ id }));
  const page = (after: string | undefined, order: "asc" | "desc") => {
    const { items: found, hasMore } = pageOf(items, { after, limit: 2, order });
    return [found.map(({ id }) => id).join(""), hasMore];
  };
  assertEquals(page(undefined, "desc"), ["cb", true]);
  assertEquals(page("b", "desc"), ["a", false]);
  assertEquals(page(undefined, "asc"), ["ab", true]);
  assertEquals(page("c", "asc"), ["", false]);
});
