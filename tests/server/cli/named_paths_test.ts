/** What serve's flags name on disk: errors name the flag, and an adapter gets the name before its path. */
import { assertEquals, assertRejects } from "@std/assert";
import { writeCore } from "../../../adapters/lotr/format.ts";
import { checkPaths, loadModules } from "../../../server/cli/named_paths.ts";
import { fakeLoad, someCore } from "../engine_context.ts";

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
