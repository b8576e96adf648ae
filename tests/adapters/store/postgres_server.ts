/**
 * A PostgreSQL server of a test's own, on a socket in a directory of its own. It owns that directory
 * and its end. PostgreSQL refuses to run as root, so where root runs the tests another user does it.
 */
// @ts-types="@types/pg"
import pg from "pg";
import { postgresPrograms } from "../../programs/postgres.ts";

/** Whom the server runs as where the tests run as root; each system has him. */
const NOBODY = "nobody";
/** The database's own administrator. */
const ROLE = "postgres";
const START_MS = 30_000;
/** A test's server need not outlive the machine's power. */
const FAST_SETTINGS = ["fsync=off", "shared_buffers=16MB", "max_connections=60"];

export interface PostgresServer extends AsyncDisposable {
  /** The URL of a new, empty database on it. */
  newDatabase(): Promise<string>;
}

interface Identity {
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * Starts a server.
 * @throws {Deno.errors.NotFound} where there are no programs of PostgreSQL
 */
export async function startPostgres(): Promise<PostgresServer> {
  const root = await Deno.makeTempDir({ prefix: "lembas-postgres-" });
  try {
    return await startIn(root);
  } catch (error) {
    await Deno.remove(root, { recursive: true });
    throw error;
  }
}

async function startIn(root: string): Promise<PostgresServer> {
  const bin = await postgresPrograms(root);
  const identity = await identityFor(root);
  const run = (program: string, args: readonly string[]) =>
    new Deno.Command(`${bin}/${program}`, {
      args: [...args],
      ...identity,
      cwd: root,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
  const data = ["-D", `${root}/data`];
  const made = ["-U", ROLE, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"];
  await succeed(run("initdb", [...data, ...made]));
  const settings = FAST_SETTINGS.flatMap((setting) => ["-c", setting]);
  const sockets = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${root}`];
  const server = run("postgres", [...data, ...sockets, ...settings]).spawn();
  const errors = new Response(server.stderr).text();
  const end = async () => {
    server.kill("SIGINT");
    await server.status;
    return await errors;
  };
  try {
    await untilReady(() => query(root, "SELECT 1"));
  } catch (cause) {
    throw new Error(`Cannot start PostgreSQL: ${await end()}`, { cause });
  }
  let databases = 0;
  return {
    newDatabase: async () => {
      const name = `test${++databases}`;
      await query(root, `CREATE DATABASE ${name}`);
      return `postgresql://${ROLE}@localhost/${name}?host=${encodeURIComponent(root)}`;
    },
    [Symbol.asyncDispose]: async () => {
      await end();
      await Deno.remove(root, { recursive: true });
    },
  };
}

/** Root gives the directory, and all in it, to the server's user. */
async function identityFor(root: string): Promise<Identity> {
  if (Deno.uid() !== 0) return {};
  const [uid, gid] = [await idOf("-u"), await idOf("-g")];
  await succeed(new Deno.Command("chown", { args: ["-R", `${uid}:${gid}`, root] }));
  return { uid, gid };
}

async function idOf(flag: "-u" | "-g"): Promise<number> {
  const { stdout } = await new Deno.Command("id", { args: [flag, NOBODY] }).output();
  return Number(new TextDecoder().decode(stdout));
}

async function succeed(command: Deno.Command): Promise<void> {
  const { success, stderr } = await command.output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim() || "it failed");
}

async function query(host: string, sql: string): Promise<void> {
  const client = new pg.Client({ host, user: ROLE, database: "postgres" });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

async function untilReady(attempt: () => Promise<void>): Promise<void> {
  for (const end = performance.now() + START_MS;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
