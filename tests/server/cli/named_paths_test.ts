/** What serve's flags name on disk: errors name the flag, and an adapter gets the name before its path. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { writeCore } from "../../../adapters/lotr/format.ts";
import { checkPaths, loadModules } from "../../../server/cli/named_paths.ts";
import { folderOf } from "../../engine/tiny.ts";
import { fakeLoad, someCore } from "../engine_context.ts";
import { ServerProcess } from "../server_process.ts";

const NONE = { adapters: undefined, factors: [], loraModules: [] };

Deno.test("a path that is not there, or of another kind, is told with its flag", async () => {
  const file = await Deno.makeTempFile();
  try {
    const cases = [
      [{ adapters: "nowhere" }, "Cannot use --adapters: there is no directory 'nowhere'."],
      [{ adapters: file }, `Cannot use --adapters: '${file}' is no directory.`],
      [{ factors: ["."] }, "Cannot use --factors: '.' is no file."],
      [{ loraModules: [{ name: "x", path: "gone" }] }, "Cannot use --lora-modules: there is no"],
    ] as const;
    for (const [paths, message] of cases) {
      await assertRejects(() => checkPaths({ ...NONE, ...paths }), TypeError, message);
    }
    await checkPaths({ ...NONE, adapters: ".", factors: [file] });
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("--lora-modules serves an adapter from anywhere under its name", async () => {
  const directory = await Deno.makeTempDir();
  const loaded = await fakeLoad();
  try {
    const path = `${directory}/core.safetensors`;
    await Deno.writeFile(path, writeCore(someCore(loaded.factors, 1)));
    await loadModules([{ name: "shelf", path }, { name: "acme/x", path }], loaded.registry);
    assertEquals(loaded.registry.list().map(({ model }) => model), ["acme/x", "default/shelf"]);
    await Deno.writeTextFile(`${directory}/no.safetensors`, "no core");
    const broken = [{ name: "bad", path: `${directory}/no.safetensors` }];
    await assertRejects(
      () => loadModules(broken, loaded.registry),
      TypeError,
      "Cannot use --lora-modules bad=",
    );
  } finally {
    await loaded.close();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("what cannot be read, or listened on, is one line with its flag", async () => {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/garbage`;
  await Deno.writeTextFile(file, "garbage");
  const serve = new URL("../../../server/cli/serve.ts", import.meta.url);
  const model = folderOf("llama");
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["--factors", file], /Cannot use --factors \S+garbage: Cannot read safetensors/],
    [["--generation-config", file], /--generation-config\): there is no \S+garbage/],
    [["--kv-memory", "1"], /raise --kv-memory/],
    [["--model", file], /Cannot use --model \S+garbage: /],
    [["--host", "none.invalid"], /Choose another address with --host/],
  ];
  try {
    for (const [given, message] of cases) {
      const args = ["--port", "0", "--model", model, ...given];
      const { code, lines } = await new ServerProcess(serve, { args }).ended();
      assertEquals([code, lines.length], [1, 1], lines.join("\n"));
      assertMatch(lines[0] ?? "", message);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
