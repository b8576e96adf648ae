/**
 * What a first `deno task serve` installs, in a copy of what it runs. The packages come from Deno's
 * cache where it has them, so nothing is downloaded after `deno install`.
 */
import { assert, assertEquals } from "@std/assert";
import { cp } from "node:fs/promises";
import deno from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
const SERVED = ["deno.json", "deno.lock", "mod.ts", "std", "src", "adapters", "server"];
/** Named by tests, and installed all the same: openapi3-ts needs it. */
const SHARED = ["yaml"];

Deno.test("a first start installs what serving imports, in workers too, and nothing that tests alone do", async () => {
  const folder = await Deno.makeTempDir({ prefix: "lembas-packages-" });
  try {
    for (const name of SERVED) {
      await cp(new URL(name, ROOT), `${folder}/${name}`, { recursive: true });
    }
    const served = await importsUnder(folder);
    await startIn(folder);
    const installed = new Set(await installedIn(folder));
    const names = Object.entries(deno.imports)
      .flatMap(([name, specifier]) => specifier.startsWith("npm:") ? [name] : []);
    assertEquals(
      names.filter((name) => installed.has(name)),
      names.filter((name) => served.has(name) || SHARED.includes(name)),
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Runs the task as a user does, in a fresh clone. */
async function startIn(folder: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "serve", "--help"],
    cwd: folder,
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** The packages that modules under a folder import, for more than types. */
async function importsUnder(folder: string): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) { for (const inner of await importsUnder(path)) found.add(inner); }
    if (!/\.tsx?$/.test(name)) continue;
    const text = await Deno.readTextFile(path);
    const specifiers = text.matchAll(/(?:from|import)[\s(]*"((?:@[\w-]+\/)?[\w-]+)[^"]*"/g);
    for (const [, specifier = ""] of specifiers) found.add(specifier);
  }
  return found;
}

/** The packages in a folder's node_modules, at whatever depth of the tree they are needed. */
async function installedIn(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(`${folder}/node_modules/.deno`));
  return entries.map(({ name }) => name.replace(/@[^@]*$/, "").replace("+", "/"));
}
