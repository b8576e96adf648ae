/**
 * The rooms of the house: which may import which, no circles, none crowded, and nothing exported that
 * nobody uses. `bench/` and `tests/` are no rooms; what they alone use is not used.
 */
import { assert, assertEquals } from "@std/assert";
import { dirname } from "node:path/posix";
import { code, type Import, importsOf, type SourceFile, texts } from "./sources.ts";

/** Files that a folder holds before it is two. */
const MOST_FILES = 15;

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
  calls: [],
  grammar: ["calls", "checkpoint", "util"],
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

/** The product's own files: no tests, no benches, no stand-ins. */
async function product(): Promise<SourceFile[]> {
  return code(await texts()).filter(({ path }) => !/^(?:tests|bench|std)\//.test(path));
}

/** Groups of files that import each other, however far around (Tarjan 1972). */
function circlesOf(files: readonly SourceFile[]): string[][] {
  const known = new Set(files.map(({ path }) => path));
  const next = new Map(
    files.map((
      file,
    ) => [file.path, importsOf(file).map(({ to }) => to).filter((to) => known.has(to))]),
  );
  const [order, low] = [new Map<string, number>(), new Map<string, number>()];
  const [path, circles]: [string[], string[][]] = [[], []];
  const visit = (file: string): void => {
    const number = order.size;
    order.set(file, number);
    low.set(file, number);
    path.push(file);
    for (const to of next.get(file) ?? []) {
      if (!order.has(to)) visit(to);
      if (path.includes(to)) low.set(file, Math.min(low.get(file) ?? 0, low.get(to) ?? 0));
    }
    if (low.get(file) !== number) return;
    const group = path.splice(path.indexOf(file));
    if (group.length > 1) circles.push(group.sort());
  };
  for (const { path } of files) if (!order.has(path)) visit(path);
  return circles;
}

Deno.test("no files import each other in a circle", async () => {
  assertEquals(circlesOf(await product()), []);
});

Deno.test("a circle is found where there is one", () => {
  const file = (path: string, to: string) => ({ path, text: `import { x } from "./${to}";` });
  const round = [file("a.ts", "b.ts"), file("b.ts", "c.ts"), file("c.ts", "b.ts")];
  assertEquals(circlesOf(round), [["b.ts", "c.ts"]]);
});

Deno.test(`no folder has more than ${MOST_FILES} files`, async () => {
  const folders = Map.groupBy(await product(), ({ path }) => dirname(path));
  const crowded = [...folders].filter(([, files]) => files.length > MOST_FILES);
  assertEquals(crowded.map(([folder, { length }]) => `${folder}: ${length}`), []);
});

/** Exported names that no other file imports, of the product or of `users`, and mentioned only once. */
function unusedExports(
  files: readonly SourceFile[],
  users: readonly SourceFile[] = [],
): string[] {
  const used = new Set([...files, ...users].flatMap((file) => namesTaken(file)));
  return files.filter(({ path }) => path !== "mod.ts" && !used.has(`${path} *`)).flatMap(
    ({ path, text }) => {
      const names = text.matchAll(
        /^export\s+(?:async\s+|abstract\s+)?(?:function\*?|class|const|interface|type)\s+(\w+)/gm,
      );
      return [...names].map(([, name = ""]) => name)
        .filter((name) => !used.has(`${path} ${name}`))
        .filter((name) => [...text.matchAll(new RegExp(`\\b${name}\\b`, "g"))].length < 2)
        .map((name) => `${path}: ${name}`);
    },
  );
}

/** What a file takes from others, as "path name"; "path *" is all of it, as `import()` takes. */
function namesTaken(file: SourceFile): string[] {
  const dynamic = [...file.text.matchAll(/import\(\s*"(\.[^"]+)"/g)].map(([statement]) => {
    const [{ to } = { to: "" }] = importsOf({ path: file.path, text: statement });
    return `${to} *`;
  });
  const statements = file.text.matchAll(
    /^(?:import|export)\s+(?:type\s+)?(?:\{([^}]*)\}|\*[^"]*)\s+from\s+"(\.[^"]+)"/gm,
  );
  const fixed = [...statements].flatMap(([statement, names]) => {
    const [{ to } = { to: "" }] = importsOf({ path: file.path, text: statement });
    if (names === undefined) return [`${to} *`];
    return names.split(",").map((name) =>
      `${to} ${name.trim().replace(/^type /, "").split(" as ")[0]}`
    );
  });
  return [...dynamic, ...fixed];
}

Deno.test("nothing is exported that nobody but a test uses", async () => {
  const bench = code(await texts()).filter(({ path }) => path.startsWith("bench/"));
  assertEquals(unusedExports(await product(), bench), []);
});

Deno.test("an unused export is found where there is one", () => {
  const files = [
    { path: "a.ts", text: "export const one = 1;\nexport const two = 2;\n" },
    { path: "b.ts", text: 'import { one } from "./a.ts";\n' },
  ];
  assertEquals(unusedExports(files), ["a.ts: two"]);
});
