/**
 * The house rules that a machine can hold besides those of rooms (`rooms_test.ts`): no state at module
 * level, a doc comment at each file's head, nothing that names one machine, and documents that are
 * true of deno.json and of the tree. It reads the repository's files and runs none of them.
 */
import { assert, assertEquals } from "@std/assert";
import deno from "../deno.json" with { type: "json" };
import { helpText } from "../server/cli/serve_flags.ts";
import { code, ROOT, type SourceFile, texts, tracked } from "./sources.ts";

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
  return (await texts()).filter(({ path }) => /^(?:[A-Z]+|docs\/\w+)\.md$/.test(path));
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
