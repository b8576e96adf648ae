/** Uploads that nobody finishes: they are cleared while the store is open, those under way are not. */
import { assertEquals } from "@std/assert";
import { PostgresDatabase } from "../../../adapters/store/database/postgres_database.ts";
import { SqliteDatabase } from "../../../adapters/store/database/sqlite_database.ts";
import type { Database } from "../../../adapters/store/database/database.ts";
import { Store } from "../../../adapters/store/store.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "./postgres_server.ts";
import { keepingLog } from "./test_store.ts";

const HOUR = 3_600_000;

async function check(database: Database): Promise<void> {
  const parts = {
    database,
    log: keepingLog(),
    sweepEvery: 20,
  };
  await using _store = await Store.open(parts);
  const { db } = database;
  const contents = async () =>
    (await db.selectFrom("contents").select("sha256").orderBy("sha256").execute())
      .map(({ sha256 }) => sha256);
  const add = (sha256: string, hours: number | null) => {
    const arrivingAt = hours === null ? null : Date.now() - hours * HOUR;
    return db.insertInto("contents").values({ bytes: 0, sha256, arrivingAt }).execute();
  };
  // another process's, as this store does not know of them
  await add("under way", 23);
  await add("whole", null);
  await add("given up", 25);
  const start = performance.now();
  while ((await contents()).includes("given up")) {
    if (performance.now() - start > 10_000) throw new Error("it is still there after 10 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(await contents(), ["under way", "whole"]);
}

Deno.test("an upload of which nothing came for a day is cleared on SQLite", async () => {
  const path = await Deno.makeTempDir();
  try {
    await check(await SqliteDatabase.open(`${path}/test.db`, () => {}));
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test({
  ...onPostgres("an upload of which nothing came for a day is cleared on PostgreSQL"),
  fn: async () => {
    await using server = await startPostgres();
    await check(await PostgresDatabase.open(await server.newDatabase(), () => {}));
  },
});
