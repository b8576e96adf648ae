/** The directory of adapters, on real directories: scanning, loading, and paths that try to leave. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { toResident } from "../../../adapters/lotr/core.ts";
import {
  AdapterDirectory,
  type Projection,
  writePeftDirectory,
} from "../../../adapters/catalog/directory.ts";
import { writeCore, writeFactors } from "../../../adapters/lotr/format.ts";
import { LossyImportError } from "../../../adapters/lotr/peft/peft_import.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import { smallCore, smallFactors, STACK } from "../small.ts";

interface Place {
  readonly root: string;
  readonly outside: string;
  readonly registry: AdapterRegistry;
  readonly directory: AdapterDirectory;
}

/** A root and a directory beside it that no path may reach, both gone after the test. */
async function withPlace(run: (place: Place) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir({ prefix: "lembas_adapters_" });
  try {
    const [root, outside] = [`${parent}/root`, `${parent}/outside`];
    await Deno.mkdir(root);
    await Deno.mkdir(outside);
    const registry = new AdapterRegistry({ stack: STACK });
    await run({ root, outside, registry, directory: await AdapterDirectory.open(root, registry) });
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

const factors = smallFactors();
const bytesOf = (seed: number) => writeCore(smallCore(factors, seed));

Deno.test("a directory is scanned into tenants, names and versions, whatever lies broken in it", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    await Deno.mkdir(`${root}/acme`);
    await Deno.writeFile(`${root}/z.factors.safetensors`, writeFactors(factors));
    await Deno.writeFile(`${root}/plain.safetensors`, bytesOf(1));
    await Deno.writeFile(`${root}/acme/helper.safetensors`, bytesOf(2));
    await Deno.writeFile(`${root}/acme/helper@5.safetensors`, bytesOf(3));
    await Deno.writeFile(`${root}/acme/cut.safetensors`, bytesOf(4).subarray(0, 300));
    await Deno.writeFile(`${root}/acme/bad name.safetensors`, bytesOf(5));
    await Deno.writeTextFile(`${root}/acme/notes.txt`, "not an adapter");
    const orphan = smallFactors({ seed: 77 });
    await Deno.writeFile(`${root}/orphan.safetensors`, writeCore(smallCore(orphan, 1)));
    const { adapters, factors: sets, warnings } = await directory.scan();
    assertEquals(sets.map(({ digest }) => digest), [factors.digest]);
    assertEquals(adapters.map(({ name }) => name).sort(), [
      "acme/helper@1",
      "acme/helper@5",
      "default/plain@1",
    ]);
    assertEquals(registry.list().length, 3);
    const files = warnings.map(({ path }) => path.slice(root.length + 1)).sort();
    assertEquals(files, [
      "acme/bad name.safetensors",
      "acme/cut.safetensors",
      "orphan.safetensors",
    ]);
    for (const { message } of warnings) assertMatch(message, /^Cannot /);
    assertEquals(registry.resolve("plain")?.source, `${directory.root}/plain.safetensors`);
  });
});

Deno.test("a loaded file is read again when its core has left memory", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    registry.factors.add(factors);
    await Deno.writeFile(`${root}/one.safetensors`, bytesOf(1));
    const { core, residual } = await directory.load({ name: "a/one", path: "one.safetensors" });
    assertEquals(residual, undefined);
    assertEquals(await registry.load(core), toResident(smallCore(factors, 1), factors));
    await Deno.writeFile(`${root}/one.safetensors`, bytesOf(2));
    await assertRejects(() => registry.load(core), TypeError, "load it again");
    const again = await directory.load({
      name: "a/one",
      path: `${directory.root}/one.safetensors`,
    });
    assertEquals(again.core.name, "a/one@2");
    await Deno.remove(`${root}/one.safetensors`);
    await assertRejects(() => registry.load(again.core), Deno.errors.NotFound);
  });
});

Deno.test("a path that leaves the root, by dots, by slash or by link, is refused as if not there", async () => {
  await withPlace(async ({ root, outside, registry, directory }) => {
    registry.factors.add(factors);
    await Deno.writeFile(`${outside}/secret.safetensors`, bytesOf(1));
    await Deno.symlink(`${outside}/secret.safetensors`, `${root}/link.safetensors`);
    await Deno.symlink(outside, `${root}/folder`);
    await Deno.mkdir(`${root}_twin`);
    await Deno.writeFile(`${root}_twin/secret.safetensors`, bytesOf(1));
    const paths = [
      "../outside/secret.safetensors",
      `${outside}/secret.safetensors`,
      `${root}/../outside/secret.safetensors`,
      "../root_twin/secret.safetensors",
      "link.safetensors",
      "folder/secret.safetensors",
      "/etc/passwd",
      "..",
      ".",
      "",
      "missing.safetensors",
      "one\0.safetensors",
    ];
    for (const path of paths) {
      const error = await assertRejects(() => directory.load({ name: "a/b", path }), TypeError);
      assertStringIncludes(error.message, "there is nothing by this path");
    }
    const { adapters, warnings } = await directory.scan();
    assertEquals(adapters, []);
    assertEquals(warnings.length, 2);
    assertEquals(registry.list(), []);
  });
});

Deno.test("a PEFT directory whose files are links out of the root is refused", async () => {
  await withPlace(async ({ root, outside, registry, directory }) => {
    registry.factors.add(factors);
    await writePeftDirectory(`${outside}/lora`, smallCore(factors, 1), factors, { baseModel: "b" });
    await Deno.mkdir(`${root}/lora`);
    for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
      await Deno.symlink(`${outside}/lora/${file}`, `${root}/lora/${file}`);
    }
    await assertRejects(() => directory.load({ name: "a/b", path: "lora" }), TypeError, "nothing");
  });
});

Deno.test("a LoRA is projected onto the factor set asked for, and lossy ones need a word", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    const own = smallFactors({ seed: 4 });
    await writePeftDirectory(`${root}/lora`, smallCore(own, 1), own, { baseModel: "b" });
    const load = (projection: Projection, digest?: string) =>
      directory.load({
        ...{ name: "x", path: "lora", projection },
        ...(digest === undefined ? {} : { factors: digest }),
      });
    await assertRejects(() => load("within"), TypeError, "no factor set");
    registry.factors.add(factors);
    registry.factors.add(own);
    await assertRejects(() => load("within"), LossyImportError);
    const lossy = await load("lossy");
    assertEquals(lossy.core.factors, factors.digest);
    assertGreater(lossy.residual ?? 0, 0.05);
    const exact = await load("within", own.digest);
    assert((exact.residual ?? 1) < 1e-9);
    await Deno.writeTextFile(`${root}/lora/adapter_config.json`, "{");
    await assertRejects(() => directory.load({ name: "x", path: "lora" }), TypeError, "not JSON");
    await Deno.remove(`${root}/lora/adapter_model.safetensors`);
    await assertRejects(() => directory.load({ name: "x", path: "lora" }), TypeError, "nothing");
  });
});

Deno.test("a root that is no directory is refused", async () => {
  const registry = new AdapterRegistry({ stack: STACK });
  const file = await Deno.makeTempFile();
  try {
    await assertRejects(() => AdapterDirectory.open(file, registry), TypeError, "not a directory");
  } finally {
    await Deno.remove(file);
  }
});
