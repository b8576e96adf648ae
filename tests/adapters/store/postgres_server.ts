/**
 * A PostgreSQL server of a test's own, from the machine's package (Debian's `postgresql`). It owns
 * its directory and its end; where no server is installed, the tests that need one are ignored, or
 * fail where LEMBAS_TEST_POSTGRES is "required".
 */
const REQUIRED = Deno.env.get("LEMBAS_TEST_POSTGRES") === "required";
/** Where Debian's packages put the server's programs, a directory a version. */
const DEBIAN = "/usr/lib/postgresql";
/** Whom the server runs as where the tests run as root, which PostgreSQL refuses. */
const USER = "postgres";
const START_MS = 30_000;
/** A test's server need not outlive the machine's power. */
const FAST_SETTINGS = ["fsync=off", "shared_buffers=16MB", "max_connections=60"];

/** Whether tests that need a server are to be passed over. */
export function ignorePostgres(): boolean {
  return !REQUIRED && programs() === undefined;
}

export interface PostgresServer extends AsyncDisposable {
  /** The URL of a new, empty database on it. */
  newDatabase(): Promise<string>;
}

/** Starts a server on a socket in a directory of its own. */
export async function startPostgres(): Promise<PostgresServer> {
  const bin = programs();
  if (bin === undefined) {
    throw new Error(`Cannot test on PostgreSQL: ${DEBIAN} has none; apt-get install postgresql`);
  }
  const root = await Deno.makeTempDir({ prefix: "lembas-postgres-" });
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
  const data = `${root}/data`;
  await succeed(run("initdb", ["-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]));
  const settings = FAST_SETTINGS.flatMap((setting) => ["-c", setting]);
  const sockets = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${root}`];
  const server = run("postgres", ["-D", data, ...sockets, ...settings]).spawn();
  const errors = new Response(server.stderr).text();
  const stop = async () => {
    server.kill("SIGINT");
    await server.status;
    await errors;
    await Deno.remove(root, { recursive: true });
  };
  try {
    await untilReady(() => succeed(run("pg_isready", ["-q", "-h", root])));
  } catch (cause) {
    await stop();
    throw new Error(`Cannot start PostgreSQL: ${await errors}`, { cause });
  }
  let databases = 0;
  return {
    newDatabase: async () => {
      const name = `test${++databases}`;
      await succeed(run("createdb", ["-h", root, "-U", USER, name]));
      return `postgresql://${USER}@localhost/${name}?host=${encodeURIComponent(root)}`;
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** The newest version's directory of programs. */
function programs(): string | undefined {
  try {
    const versions = [...Deno.readDirSync(DEBIAN)].map(({ name }) => Number(name));
    const newest = Math.max(...versions.filter(Number.isInteger));
    const bin = `${DEBIAN}/${newest}/bin`;
    return Deno.statSync(`${bin}/initdb`).isFile ? bin : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Root gives the directory to the server's user. */
async function identityFor(
  root: string,
): Promise<{ readonly uid?: number; readonly gid?: number }> {
  if (Deno.uid() !== 0) return {};
  const [uid, gid] = [await idOf("-u"), await idOf("-g")];
  await Deno.chown(root, uid, gid);
  return { uid, gid };
}

async function idOf(flag: "-u" | "-g"): Promise<number> {
  const { stdout } = await new Deno.Command("id", { args: [flag, USER] }).output();
  return Number(new TextDecoder().decode(stdout));
}

async function succeed(command: Deno.Command): Promise<void> {
  const { success, stderr } = await command.output();
  if (!success) throw new Error(new TextDecoder().decode(stderr).trim() || "it failed");
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
