/** LoRAs as they are in the directory, the registry and the cache, without a model. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { CoreCache } from "../../../adapters/catalog/cache.ts";
import { AdapterDirectory } from "../../../adapters/catalog/directory.ts";
import { AdapterRegistry, type LoraServing } from "../../../adapters/catalog/registry.ts";
import { readLora } from "../../../adapters/lora/lora_file.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { writeCore } from "../../../adapters/lotr/format.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import { isLora } from "../../../src/executor/model.ts";
import { residentLoraBytes, toResidentLora } from "../../../src/models/lora.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { digestOf, smallCore } from "../small.ts";
import { smallLora, writePeft } from "../lora/small_loras.ts";

const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
const { config } = checkpoint;
checkpoint.close();
const STACK = stackOf(digestOf("b"), config);
const SERVING: LoraServing = {
  base: {
    residentLora: (lora) => toResidentLora(lora, config, () => undefined),
    residentLoraBytes: (ranks) => residentLoraBytes(config, ranks),
  },
};

interface Place {
  readonly root: string;
  readonly registry: AdapterRegistry;
  readonly directory: AdapterDirectory;
}

async function withPlace(run: (place: Place) => Promise<void>, loras = SERVING): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "lembas_loras_" });
  try {
    const registry = new AdapterRegistry({ stack: STACK, loras });
    await run({ root, registry, directory: await AdapterDirectory.open(root, registry) });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("a directory's PEFT LoRAs and LoRA files are served as they are", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    await writePeft(`${root}/acme/peft`, STACK, 1, { rank: 10, modules: ["q_proj", "down_proj"] });
    await Deno.writeFile(`${root}/acme/file.safetensors`, smallLora(STACK, 2));
    await Deno.mkdir(`${root}/acme/pickle`);
    await Deno.writeTextFile(`${root}/acme/pickle/adapter_config.json`, "{}");
    await Deno.writeTextFile(`${root}/acme/pickle/adapter_model.bin`, "");
    const { adapters, warnings } = await directory.scan();
    assertEquals(adapters.map(({ name, factors, ranks }) => [name, factors, ranks]), [
      ["acme/file@1", undefined, { q_proj: 4, v_proj: 4 }],
      ["acme/peft@1", undefined, { q_proj: 10, down_proj: 10 }],
    ]);
    assertEquals(warnings.length, 1);
    assert(warnings[0]?.message.includes("is a pickle"));
    for (const served of adapters) {
      const resident = await registry.load(served);
      assert(isLora(resident));
      assertEquals(resident.data.byteLength, registry.residentBytes(served));
    }
    const file = registry.resolve("acme/file");
    const wanted = toResidentLora(readLora(smallLora(STACK, 2)), config, () => undefined);
    assertEquals(file && await registry.load(file), wanted);
  });
});

Deno.test("a LoRA and a core of one name take turns, each a version", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    const factors = randomFactors({ stack: STACK, rank: 4 });
    registry.factors.add(factors);
    await writePeft(`${root}/lora`, STACK, 1);
    await Deno.writeFile(`${root}/core.safetensors`, writeCore(smallCore(factors, 1)));
    const load = async (path: string) => (await directory.load({ name: "a/x", path })).core;
    const [lora, core] = [await load("lora"), await load("core.safetensors")];
    assertEquals([lora.name, core.name], ["a/x@1", "a/x@2"]);
    assertEquals((await load("lora")).name, "a/x@1");
    const current = registry.resolve("a/x");
    assertEquals(current?.digest, lora.digest);
    assert(isLora(await registry.load(lora)) && !isLora(await registry.load(core)));
  });
});

Deno.test("a PEFT directory that changed is not served under its old digest", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    await writePeft(`${root}/lora`, STACK, 1);
    const { core: first } = await directory.load({ name: "a/x", path: "lora" });
    await writePeft(`${root}/lora`, STACK, 2);
    await assertRejects(() => registry.load(first), TypeError, "load it again");
    const { core: second } = await directory.load({ name: "a/x", path: "lora" });
    assertNotEquals(second.digest, first.digest);
    await writePeft(`${root}/lora`, STACK, 1);
    assertEquals((await directory.load({ name: "a/x", path: "lora" })).core, first);
  });
});

Deno.test("a LoRA above the rank limit, or where none is served, is refused", async () => {
  await withPlace(async ({ root, directory }) => {
    await writePeft(`${root}/lora`, STACK, 1);
    const load = () => directory.load({ name: "a/x", path: "lora" });
    await assertRejects(load, RangeError, "is 4, at most 2");
  }, { ...SERVING, maxRank: 2 });
  const none = new AdapterRegistry({ stack: STACK });
  const core = readLora(smallLora(STACK, 1));
  assertThrows(() => none.add("a/x", { core, source: "test" }), TypeError, "on the CPU alone");
});

Deno.test("of a thousand LoRAs a hundred are resident, and never more", async () => {
  await withPlace(async ({ root, registry, directory }) => {
    const numbers = Array.from({ length: 1000 }, (_, i) => i);
    await Promise.all(
      numbers.map((i) =>
        writePeft(`${root}/t${i % 10}/l${i}`, STACK, i, { rank: 8, modules: ["v_proj"] })
      ),
    );
    const { adapters, warnings } = await directory.scan();
    assertEquals([adapters.length, warnings.length], [1000, 0]);
    const one = residentLoraBytes(config, { v_proj: 8 });
    assertEquals(one, 4 * STACK.layers * 8 * (STACK.inputs.attn_in + STACK.outputs.v_proj));
    const cache = new CoreCache({ loader: registry, maxBytes: 100 * one + 1 });
    const asked = [...adapters.slice(0, 300), ...adapters.slice(150, 300)];
    for (const [i, served] of asked.entries()) {
      const lease = await cache.acquire(served);
      assertEquals(lease.core.data.byteLength, one);
      lease.release();
      const { residentCores, residentBytes } = cache.metrics();
      assert(residentCores <= 100 && residentBytes <= 100 * one, `after ${i}`);
      cache.checkIntegrity();
    }
    const { hits, misses, evictions } = cache.metrics();
    // the last 150 are asked for again in the same order, so none of them is there any more
    assertEquals({ hits, misses, evictions }, { hits: 0, misses: 450, evictions: 350 });
    const last = asked.at(-1);
    if (last !== undefined) (await cache.acquire(last)).release();
    assertEquals(cache.metrics().hits, 1);
  });
});
