// deno-lint-ignore-file camelcase -- names of the wire format
/** How a job leaves the process that had it: by the server's stop, and where the store fails then. */
import { assertEquals } from "@std/assert";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "../../adapters/store/postgres_server.ts";
import type { Database } from "../../../adapters/store/database/database.ts";
import { openStore } from "../../../adapters/store/open_store.ts";
import { query } from "../../adapters/store/cases.ts";
import { keepingLog, newDataDirectory } from "../../adapters/store/test_store.ts";
import { FAST, type ServerOptions, startServer, until, upload } from "../tuning_server.ts";

Deno.test("a job that the server's stop has broken off says so in its events", async () => {
  const data = await newDataDirectory();
  const begun = Promise.withResolvers<void>();
  const stopping = Promise.withResolvers<void>();
  const pace = () => {
    begun.resolve();
    return stopping.promise;
  };
  const server = await startServer({ data, pace });
  const training_file = await upload(server.client);
  const { id } = await server.client.fineTuning.jobs.create({
    ...{ model: "tiny", training_file, hyperparameters: FAST },
  });
  await begun.promise;
  const stopped = server.stop();
  stopping.resolve();
  await stopped;
  await using store = await openStore({ type: "directory", path: data }, keepingLog());
  const { jobs } = store.forTenant("default");
  assertEquals((await jobs.find(id))?.status, "queued");
  const { items } = await jobs.events(id, { after: undefined, limit: 1, order: "desc" });
  assertEquals(
    items.map(({ message }) => message),
    ["The job's server was stopped; the job is queued to go on"],
  );
  await Deno.remove(data, { recursive: true });
});

/** What a database refuses for a while: a job's change, and a place in the queue of training. */
const REFUSED = {
  "a job's end": {
    table: { sqlite: "jobs", postgres: "jobs" },
    when: "UPDATE",
    row: {
      sqlite: "OLD.status = 'running' AND NEW.status <> 'running'",
      postgres: "OLD.status = 'running' AND NEW.status <> 'running'",
    },
  },
  "a place in the queue": {
    table: { sqlite: "queue", postgres: "pgboss.job" },
    when: "INSERT",
    row: { sqlite: "NEW.queue LIKE 'training/%'", postgres: "NEW.name LIKE 'training/%'" },
  },
} as const;

type Refused = typeof REFUSED[keyof typeof REFUSED];

async function refuse(database: Database, { table, when, row }: Refused): Promise<void> {
  const { kind } = database;
  const trigger = `CREATE TRIGGER refuse BEFORE ${when} ON ${table[kind]} FOR EACH ROW ` +
    `WHEN (${row[kind]})`;
  if (kind === "sqlite") {
    await query(database, `${trigger} BEGIN SELECT RAISE(ABORT, 'no space is left'); END`);
    return;
  }
  await query(
    database,
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
      AS $$ BEGIN RAISE EXCEPTION 'no space is left'; END $$`,
  );
  await query(database, `${trigger} EXECUTE FUNCTION refuse()`);
}

async function allow(database: Database): Promise<void> {
  const refuse = database.kind === "sqlite" ? "TRIGGER refuse" : "FUNCTION refuse CASCADE";
  await query(database, `DROP ${refuse}`);
}

/** A store that refuses for a while costs a job time, and nothing else. */
async function outlast(refused: Refused, options: Omit<ServerOptions, "pace">): Promise<void> {
  const server = await startServer(options);
  const { client, store, lines } = server;
  const training_file = await upload(client);
  await refuse(store.database, refused);
  const { id } = await client.fineTuning.jobs.create({
    ...{ model: "tiny", training_file, hyperparameters: FAST },
  });
  const failed = () => lines.some((line) => /the queue of jobs: .*no space is left/.test(line));
  while (!failed()) await new Promise((resolve) => setTimeout(resolve, 10));
  await allow(store.database);
  await within(60_000, until(client, id, "succeeded"));
  await server.stop();
}

/** A job that nobody takes up again never ends. */
async function within(milliseconds: number, ending: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("nobody has taken the job up again")), milliseconds);
  });
  await Promise.race([ending, late]).finally(() => clearTimeout(timer));
}

for (const [what, refused] of Object.entries(REFUSED)) {
  Deno.test(`a job goes on where SQLite has refused ${what} for a while`, async () => {
    const data = await newDataDirectory();
    await outlast(refused, { data });
    await Deno.remove(data, { recursive: true });
  });

  Deno.test({
    ...onPostgres(`a job goes on where PostgreSQL has refused ${what} for a while`),
    fn: async () => {
      await using server = await startPostgres();
      await outlast(refused, { data: { type: "url", url: await server.newDatabase() } });
    },
  });
}
