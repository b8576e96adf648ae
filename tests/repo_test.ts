/**
 * The house rules that a machine can hold: which room imports which, no state at module level, a
 * doc comment at each file's head, nothing that names one machine, and documents that are true of
 * deno.json and of the tree. It reads the repository's files and runs none of them.
 */
import { assert, assertEquals } from "@std/assert";
import { dirname, join, normalize } from "node:path/posix";
import deno from "../deno.json" with { type: "json" };
import { helpText } from "../server/cli/serve_flags.ts";

const ROOT = new URL("../", import.meta.url);
const SKIPPED = new Set([".git", "node_modules", ".lembas", "__pycache__"]);

interface SourceFile {
  readonly path: string;
  readonly text: string;
}

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

async function tracked(): Promise<string[]> {
  try {
    const { success, stdout } = await new Deno.Command("git", {
      args: ["-C", decodeURIComponent(ROOT.pathname), "ls-files"],
      stderr: "null",
    }).output();
    if (success) return new TextDecoder().decode(stdout).trim().split("\n");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return walk("");
}

/** An unpacked archive has no index: every file but build and cache folders. */
async function walk(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(new URL(folder, ROOT))) {
    if (SKIPPED.has(entry.name)) continue;
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) found.push(...await walk(`${path}/`));
    else found.push(path);
  }
  return found;
}

/** Every tracked file that is text. */
async function texts(): Promise<SourceFile[]> {
  const files = await Promise.all((await tracked()).map(async (path) => {
    try {
      const bytes = await Deno.readFile(new URL(path, ROOT));
      return [{ path, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) }];
    } catch (error) {
      if (error instanceof TypeError || error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }));
  return files.flat();
}

function code(files: readonly SourceFile[]): SourceFile[] {
  return files.filter(({ path }) => /\.(tsx?|mjs)$/.test(path));
}

/** The modules a file names in imports and re-exports; relative ones as paths from the root. */
function importsOf({ path, text }: SourceFile): Import[] {
  const statements = text.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[^;"']*?\sfrom\s+)?["']([^"']+)["']|import\(\s*["']([^"']+)["']/gm,
  );
  return [...statements].map(([, type, fixed, dynamic]) => {
    const name = fixed ?? dynamic ?? "";
    const to = name.startsWith(".") ? normalize(join(dirname(path), name)) : name;
    return { from: path, to, typeOnly: type !== undefined };
  });
}

function room(path: string): string {
  return path.split("/")[0] ?? "";
}

function sibling(path: string): string | undefined {
  return path.startsWith("src/") ? path.split("/")[1] : undefined;
}

/** What each room of src may import at run time, besides itself and packages. */
const SIBLINGS: Readonly<Record<string, readonly string[]>> = {
  util: [],
  graph: ["util"],
  runtime: ["util"],
  checkpoint: ["util"],
  grammar: ["checkpoint", "util"],
  models: ["checkpoint", "graph", "runtime", "util"],
  executor: ["checkpoint", "graph", "models", "runtime", "util"],
  engine: ["checkpoint", "executor", "grammar", "graph", "models", "runtime", "util"],
  train: ["checkpoint", "graph", "models", "runtime", "util"],
};

/** What each room of src may import as types alone: graph and runtime share element types. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  runtime: ["graph"],
  graph: ["runtime"],
};

/** What the rooms at the root must not import. */
const ABOVE: Readonly<Record<string, readonly string[]>> = {
  src: ["adapters", "server", "bench", "tests", "mod.ts"],
  adapters: ["server", "bench", "tests", "mod.ts"],
  server: ["bench", "tests"],
  std: ["src", "adapters", "server", "bench", "tests"],
};

function allowed({ from, to, typeOnly }: Import): boolean {
  if (ABOVE[room(from)]?.includes(room(to))) return false;
  const [own, other] = [sibling(from), sibling(to)];
  if (own === undefined || other === undefined || own === other) return true;
  if (SIBLINGS[own]?.includes(other)) return true;
  return typeOnly && (TYPES[own]?.includes(other) ?? false);
}

Deno.test("imports run one way: src, adapters, server, entry points", async () => {
  const imports = code(await texts()).flatMap(importsOf);
  assert(
    imports.length > 100,
    `found only ${imports.length} imports: the pattern must have broken`,
  );
  const wrong = imports.filter((one) => !allowed(one));
  assertEquals(wrong.map(({ from, to }) => `${from} imports ${to}`), []);
});

Deno.test("the import rule refuses what it is there to refuse", () => {
  const refused = (from: string, text: string) =>
    importsOf({ path: from, text }).some((one) => !allowed(one));
  assert(refused("src/engine/a.ts", `import { x } from "../../adapters/x.ts";`));
  assert(refused("adapters/a.ts", `export * from "../server/http/app.ts";`));
  assert(refused("src/train/a.ts", `import type { X } from "../engine/model.ts";`));
  assert(refused("src/graph/a.ts", `import {\n  x,\n} from "../models/x.ts";`));
  assert(refused("src/runtime/a.ts", `import { x } from "../graph/x.ts";`));
  assert(!refused("src/runtime/a.ts", `import type { X } from "../graph/x.ts";`));
  assert(!refused("src/models/a.ts", `import { x } from "../graph/x.ts";`));
  assert(refused("src/models/a.ts", `const x = await import("../engine/x.ts");`));
});

Deno.test("no module keeps mutable state", async () => {
  const wrong = code(await texts()).filter(({ text }) => /^(export\s+)?(let|var)\s/m.test(text));
  assertEquals(wrong.map(({ path }) => path), []);
});

Deno.test("each source file opens with what it is", async () => {
  const files = (await texts()).filter(({ path }) => /\.(tsx?|mjs|py)$/.test(path));
  const wrong = files.filter(({ path, text }) => {
    const body = text.replace(/^(#!.*\n|\/\/ deno-lint-ignore-file.*\n|\/\/ @ts-\w+.*\n|\s)*/, "");
    return !body.startsWith(path.endsWith(".py") ? '"""' : "/**");
  });
  assertEquals(wrong.map(({ path }) => path), []);
});

Deno.test("no tracked file names a package registry or a place on one machine", async () => {
  // Brackets keep these patterns from matching themselves.
  const places =
    /[n]pmjs\.|[p]ythonhosted|[p]ypi\.org|[j]sr\.io|(?:^|[\s"'`=(])\/(?:[t]mp|[h]ome|[r]oot|[w]ork|[U]sers)\/\w/m;
  const wrong = (await texts()).flatMap(({ path, text }) => {
    const found = places.exec(text);
    return found ? [`${path}: ${found[0].trim()}`] : [];
  });
  assertEquals(wrong, []);
});

Deno.test("every dependency in deno.json is named by some module", async () => {
  const all = code(await texts()).map(({ text }) => text).join("\n");
  const unused = Object.keys(deno.imports).filter((name) =>
    !all.includes(`"${name}"`) && !all.includes(`"${name}/`)
  );
  assertEquals(unused, []);
});

async function documents(): Promise<SourceFile[]> {
  return (await texts()).filter(({ path }) => /^[A-Z]+\.md$/.test(path));
}

Deno.test("every task that a document names is in deno.json", async () => {
  const tasks = Object.keys(deno.tasks);
  const named = (await documents()).flatMap(({ path, text }) =>
    [...text.matchAll(/deno task ([a-z][\w:-]*)/g)].map(([, task]) => ({ path, task }))
  );
  assert(named.length > 0, "no document names a task");
  assertEquals(named.filter(({ task }) => !tasks.includes(task ?? "")), []);
});

Deno.test("every module that a task names exists", async () => {
  const files = await tracked();
  const commands = Object.values(deno.tasks).map((task) =>
    typeof task === "string" ? task : task.command
  );
  const named = commands.join(" ").match(/[\w./-]+\.ts/g) ?? [];
  assert(named.length >= 5, `tasks name only ${named.join(", ")}`);
  assertEquals(named.filter((path) => !files.includes(path)), []);
});

Deno.test("every file that a document links to or maps exists", async () => {
  const files = await tracked();
  const wrong = (await documents()).flatMap(({ path, text }) => {
    const links = [...text.matchAll(/\]\((?!\w+:|#)([^)#\s]+)/g)].map(([, to]) => to ?? "");
    const mapped = [...text.matchAll(/`((?:src|adapters|server|tests|bench|std|\.ci)\/[\w./-]*)`/g)]
      .map(([, to]) => to ?? "");
    return [...links, ...mapped]
      .filter((to) =>
        !files.some((file) => file === to || file.startsWith(to.replace(/\/?$/, "/")))
      )
      .map((to) => `${path}: ${to}`);
  });
  assertEquals(wrong, []);
});

Deno.test("README.md's table of flags is the help's: names and defaults", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const table = [...readme.matchAll(/^\| `--([a-z-]+)` +\|.*\| ([^|]*?) +\|$/gm)]
    .map(([, name, fallback]) => ({ name, fallback }));
  const help = [...helpText().matchAll(/^ {2}--([a-z-]+) \S+\n(?:.*\(default: ([^)]*)\))?/gm)];
  assertEquals(table.map(({ name }) => name), help.map(([, name]) => name));
  for (const [i, [, name, fallback]] of help.entries()) {
    const shown = table[i]?.fallback ?? "";
    const same = fallback === undefined || fallback.includes(shown);
    assert(same, `README.md says --${name} defaults to ${shown}, the help says ${fallback}`);
  }
});
