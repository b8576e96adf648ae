/** SQLite on its thread: what it does while others work, where its disk is full, and when it is lost. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertRejects,
} from "@std/assert";
import { sql } from "kysely";
import { SqliteDatabase } from "../../../../adapters/store/database/sqlite_database.ts";
import { query } from "../cases.ts";

interface Opened {
  readonly database: SqliteDatabase;
  readonly path: string;
  readonly losses: readonly string[];
  /** Sends the thread what no order can be: it breaks off. */
  breakOff(): void;
}

type Case = (opened: Opened) => Promise<void>;

/** What `pg_notify` tells on a channel while `work` runs, and what came before it resolved. */
async function heard(database: SqliteDatabase, work: () => Promise<unknown>): Promise<string[]> {
  const payloads: string[] = [];
  await using _ = await database.listen("news", (payload) => void payloads.push(payload));
  await work();
  return payloads;
}

const notify = (payload: string) => sql`SELECT pg_notify('news', ${payload})`;

const CASES: Readonly<Record<string, Case>> = {
  "the event loop turns while a statement runs": async ({ database }) => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await query(
      database,
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) " +
        "SELECT sum(i) FROM n",
    );
    clearInterval(timer);
    assertGreater(turns, 20);
  },

  "nobody's statement comes in between a transaction's": async ({ database }) => {
    const { db } = database;
    await query(database, "CREATE TABLE counted (n int)");
    await query(database, "INSERT INTO counted VALUES (0)");
    const read = async () => (await query(database, "SELECT n FROM counted"))[0]?.n;
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

  "a reader waits for no transaction, and sees what is committed": async ({ database: { db } }) => {
    const count = () => db.selectFrom("secrets").select("name").execute();
    await db.transaction().execute(async (trx) => {
      await trx.insertInto("secrets").values({ name: "one", bytes: new Uint8Array(1) }).execute();
      assertEquals(await count(), []);
    });
    assertEquals(await count(), [{ name: "one" }]);
  },

  "what is told is told when it is committed, and not where it is undone": async ({ database }) => {
    const { db } = database;
    const told = await heard(database, async () => {
      await notify("alone").execute(db);
      await db.transaction().execute(async (trx) => {
        const before = await heard(database, () => notify("together").execute(trx));
        assertEquals(before, []);
        await sql`SELECT 1`.execute(trx);
      });
      await assertRejects(() =>
        db.transaction().execute(async (trx) => {
          await notify("undone").execute(trx);
          throw new TypeError("no");
        })
      );
      await notify("last").execute(db);
    });
    assertEquals(told, ["alone", "together", "last"]);
  },

  "what is committed is synced, and keys are held": async ({ database }) => {
    const show = async (name: string) => {
      const [row] = await query(database, `PRAGMA ${name}`);
      return Object.values(row ?? {})[0];
    };
    const shown = await Promise.all(["journal_mode", "synchronous", "foreign_keys"].map(show));
    const FULL = 2;
    assertEquals(shown, ["wal", FULL, 1]);
  },

  "the log does not grow with all that is written": async ({ database, path }) => {
    await query(database, "CREATE TABLE written (b blob)");
    for (let i = 0; i < 100; i++) {
      await query(database, "INSERT INTO written VALUES (zeroblob(500000))");
    }
    const { size } = await Deno.stat(`${path}-wal`);
    assertLess(size, 20 * 2 ** 20);
  },

  "a full disk fails the statement in one line, undoes its transaction, and passes": async (
    { database },
  ) => {
    const { db } = database;
    await query(database, "CREATE TABLE filled (b blob)");
    const [row] = await query(database, "PRAGMA page_count");
    await query(database, `PRAGMA max_page_count = ${row?.page_count + 2}`);
    const fill = () =>
      db.transaction().execute(async (trx) => {
        await sql`INSERT INTO filled VALUES (zeroblob(10))`.execute(trx);
        // the transaction is over, though its user does not look
        await sql`INSERT INTO filled VALUES (zeroblob(1000000))`.execute(trx).catch(() => {});
        await sql`INSERT INTO filled VALUES (zeroblob(1000000))`.execute(trx);
      });
    const { message } = await assertRejects(fill, Error);
    assertMatch(message, /^(database or disk is full|the transaction has failed before)$/);
    assertEquals(await query(database, "SELECT * FROM filled"), []);
    await query(database, "PRAGMA max_page_count = 1000000");
    await query(database, "INSERT INTO filled VALUES (zeroblob(1000000))");
  },

  "a thread that is lost fails what is under way, and another one takes over": async (
    { database, losses, breakOff },
  ) => {
    const { db } = database;
    const names = async () => (await db.selectFrom("secrets").select("name").execute()).length;
    const before = await names();
    let reconnected = 0;
    using _ = database.onReconnect(() => reconnected++);
    const add = (name: string) => ({ name, bytes: new Uint8Array(1) });
    const broken = () =>
      db.transaction().execute(async (trx) => {
        await trx.insertInto("secrets").values(add("half")).execute();
        breakOff();
        await trx.insertInto("secrets").values(add("other half")).execute();
      });
    const waiting = assertRejects(broken, Error, "Cannot use the database: its thread ended");
    const after = db.insertInto("secrets").values(add("after")).execute();
    await waiting;
    await after;
    assertEquals(await names(), before + 1);
    assertEquals([losses.length, reconnected], [1, 1]);
  },

  "statements after the end are refused, not left waiting": async ({ database }) => {
    await database[Symbol.asyncDispose]();
    await assertRejects(() => query(database, "SELECT 1"), Error);
  },
};

/** Opens a database, keeping its thread at hand. */
async function open(path: string): Promise<Opened> {
  const threads: Worker[] = [];
  const real = globalThis.Worker;
  class KeptWorker extends real {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      threads.push(this);
    }
  }
  globalThis.Worker = KeptWorker;
  const losses: string[] = [];
  const database = await SqliteDatabase.open(path, ({ message }) => losses.push(message));
  globalThis.Worker = real;
  return { database, path, losses, breakOff: () => threads[0]?.postMessage(null) };
}

Deno.test("SQLite on its thread", async (t) => {
  const root = await Deno.makeTempDir();
  const opened = await open(`${root}/test.db`);
  try {
    await query(opened.database, "CREATE TABLE secrets (name text PRIMARY KEY, bytes blob)");
    for (const [sentence, run] of Object.entries(CASES)) await t.step(sentence, () => run(opened));
  } finally {
    await opened.database[Symbol.asyncDispose]();
    await Deno.remove(root, { recursive: true });
  }
});
