/** PGlite on its thread: what it does while others work, and what it does for its files. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertRejects,
} from "@std/assert";
import { sql } from "kysely";
import { PgliteDatabase } from "../../../../adapters/store/database/pglite_database.ts";
import { keepingLog, newDataDirectory } from "../test_store.ts";

type Case = (
  database: PgliteDatabase,
  directory: string,
  warnings: readonly string[],
) => Promise<void>;

/** Longer than the pause after which upkeep runs by itself. */
function untilIdle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1000));
}

const CASES: Readonly<Record<string, Case>> = {
  "the event loop turns while a statement runs": async (database) => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await database.executeSql("SELECT sum(i) FROM generate_series(1, 3000000) i");
    clearInterval(timer);
    assertGreater(turns, 20);
  },

  "nobody's statement comes in between a transaction's": async (database) => {
    await database.executeSql("CREATE TABLE counted (n int); INSERT INTO counted VALUES (0)");
    const { db } = database;
    const read = async () => (await database.executeSql("SELECT n FROM counted")).rows[0].n;
    const add = (fail: boolean) =>
      db.transaction().execute(async (trx) => {
        for (let i = 0; i < 5; i++) await sql`UPDATE counted SET n = n + 1`.execute(trx);
        if (fail) throw new TypeError("no");
      });
    const refused = assertRejects(() => add(true), TypeError, "no");
    const seen = await Promise.all([add(false), read(), add(false), read()]);
    await refused;
    assert([seen[1], seen[3]].every((n) => n % 5 === 0), `saw ${seen}`);
    assertEquals(await read(), 10);
  },

  "what PostgreSQL syncs is synced": async (database) => {
    const show = async (name: string) => (await database.executeSql(`SHOW ${name}`)).rows[0][name];
    assertEquals(await show("fsync"), "on");
    assertEquals(await show("synchronous_commit"), "on");
    // fdatasync does nothing in PGlite
    assertEquals(await show("wal_sync_method"), "fsync");
  },

  "the log does not grow with all that is written": async (database, directory) => {
    await database.executeSql("CREATE TABLE written (b bytea)");
    await database.executeSql("ALTER TABLE written ALTER COLUMN b SET STORAGE EXTERNAL");
    const piece = new Uint8Array(2 ** 19);
    for (let i = 0; i < 256; i++) {
      await database.executeSql("INSERT INTO written VALUES ($1)", [piece]);
    }
    const files = [...Deno.readDirSync(`${directory}/pg_wal`)].filter(({ isFile }) => isFile);
    const sizes = files.map(({ name }) => Deno.statSync(`${directory}/pg_wal/${name}`).size);
    assertLess(sizes.reduce((sum, size) => sum + size, 0), 120 * 2 ** 20);
  },

  "upkeep that fails fails no statement, nor the thread": async (database, directory, warnings) => {
    await database.executeSql("CREATE TABLE kept (b bytea)");
    await database.executeSql("ALTER TABLE kept ALTER COLUMN b SET STORAGE EXTERNAL");
    // without this directory no checkpoint succeeds
    const [there, away] = [`${directory}/pg_logical/mappings`, `${directory}/pg_logical/away`];
    await Deno.rename(there, away);
    const piece = new Uint8Array(2 ** 19);
    for (let i = 0; i < 256; i++) {
      await database.executeSql("INSERT INTO kept VALUES ($1)", [piece]);
    }
    await untilIdle();
    const { rows } = await database.executeSql("SELECT count(*)::int AS n FROM kept");
    assertEquals(rows[0].n, 256);
    assertMatch(warnings[0] ?? "", /checkpoint.*pg_logical\/mappings/);
    await Deno.rename(away, there);
  },

  "statements after the end are refused, not left waiting": async (database) => {
    await database[Symbol.asyncDispose]();
    await assertRejects(() => database.executeSql("SELECT 1"), Error, "it was closed");
  },
};

Deno.test("PGlite on its thread", async (t) => {
  const root = await newDataDirectory();
  const directory = `${root}/database`;
  const { warning, warnings } = keepingLog();
  const database = await PgliteDatabase.open(directory, ({ message }) => warning(message));
  try {
    for (const [sentence, run] of Object.entries(CASES)) {
      await t.step(sentence, () => run(database, directory, warnings));
    }
  } finally {
    await database[Symbol.asyncDispose]();
    await Deno.remove(root, { recursive: true });
  }
});
