/** Names between the store, the adapters' directory and tuned models: who wins, who may be removed. */
import { assertEquals, assertRejects } from "@std/assert";
import { Core } from "../../../adapters/lotr/core.ts";
import { UnservableError } from "../../../adapters/catalog/factor_sets.ts";
import { writeCore, writeFactors } from "../../../adapters/lotr/format.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { StoredCores } from "../../../adapters/catalog/stored_cores.ts";
import type { Store } from "../../../adapters/store/store.ts";
import { Catalog } from "../../../adapters/catalog/catalog.ts";
import { toApiError } from "../../../server/errors.ts";
import { checkpointName, parseTunedName } from "../../../adapters/catalog/name.ts";
import { TunedModels } from "../../../adapters/catalog/tuned_models.ts";
import { jobOf } from "../store/jobs_suite.ts";
import { openTestStore } from "../store/test_store.ts";
import { fakeLoad, type FakeLoaded, someCore } from "../../server/engine_context.ts";

const OPTIONS = {};

/** A directory with the core `acme/local`, and files of others that are not loaded. */
async function withCatalog(
  body: (
    catalog: Catalog,
    loaded: FakeLoaded,
    cores: StoredCores,
    store: Store,
  ) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  await using opened = await openTestStore();
  const { store } = opened;
  await store.tenants.create({ id: "acme" });
  const loaded = await fakeLoad({ directory });
  const { registry } = loaded;
  await Deno.mkdir(`${directory}/acme`);
  for (const [seed, name] of ["local", "one", "two"].entries()) {
    await Deno.writeFile(
      `${directory}/acme/${name}.safetensors`,
      writeCore(someCore(loaded.factors, seed)),
    );
  }
  await loaded.directory?.load({ name: "acme/local", path: "acme/local.safetensors" });
  await registry.factors.keepIn(store.factors);
  using stored = new StoredCores({ store, registry });
  try {
    await body(
      new Catalog({ registry, directory: loaded.directory, stored }),
      loaded,
      stored,
      store,
    );
  } finally {
    await loaded.close();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("what is loaded lies in the store: versions, removal, content on demand", () =>
  withCatalog(async (catalog, { registry }) => {
    assertEquals(await catalog.find("acme/shelf"), undefined);
    await catalog.loadPath("acme/shelf", "acme/one.safetensors", OPTIONS);
    const first = await catalog.find("acme/shelf");
    assertEquals([first?.name, first?.tenant], ["acme/shelf@1", "acme"]);
    await catalog.loadPath("acme/shelf", "acme/two.safetensors", OPTIONS);
    assertEquals((await catalog.find("acme/shelf"))?.name, "acme/shelf@2");
    assertEquals((await catalog.find("acme/shelf@1"))?.digest, first?.digest);
    const prefix = first?.digest.slice(0, 8);
    assertEquals((await catalog.find(`acme/shelf@${prefix}`))?.name, "acme/shelf@1");
    assertEquals((await registry.content(first ?? never())).digest, first?.digest);
    assertEquals(await catalog.find("default/shelf"), undefined);
    await catalog.unload("acme/shelf@2");
    assertEquals((await catalog.find("acme/shelf"))?.name, "acme/shelf@1");
    await catalog.unload("acme/shelf");
    assertEquals(await catalog.find("acme/shelf"), undefined);
    await assertRejects(() => registry.content(first ?? never()), RangeError);
  }));

Deno.test("a name of the store's wins over the directory's, which is unloaded after it", () =>
  withCatalog(async (catalog) => {
    const local = await catalog.find("acme/local");
    await catalog.loadPath("acme/local", "acme/one.safetensors", OPTIONS);
    const kept = await catalog.find("acme/local");
    assertEquals(kept?.name, "acme/local@1");
    assertEquals(kept?.digest === local?.digest, false);
    const names = async (tenant?: string) => (await catalog.list(tenant)).map(({ name }) => name);
    assertEquals(await names("acme"), ["acme/local@1"]);
    assertEquals(await names(), ["acme/local@1"]);
    assertEquals(await names("default"), []);
    await catalog.unload("acme/local");
    assertEquals((await catalog.find("acme/local"))?.digest, local?.digest);
    await catalog.unload("acme/local");
    assertEquals(await catalog.find("acme/local"), undefined);
  }));

Deno.test("a version cannot be asked for, a core of other factors not be published", () =>
  withCatalog(async (catalog, { factors }, cores, store) => {
    await assertRejects(
      () => catalog.loadPath("acme/shelf@3", "acme/one.safetensors", OPTIONS),
      TypeError,
      "leave the version out",
    );
    const { base, modules, cores: values, rank } = someCore(factors, 1);
    const foreign = new Core({ base, modules, rank, cores: values, factors: "c".repeat(64) });
    await assertRejects(
      () => cores.publish({ tenant: "acme", name: "x" }, writeCore(foreign), "test"),
      RangeError,
      "Cannot use factor set",
    );
    assertEquals(await catalog.find("acme/x"), undefined);
    // whoever has the file may put it in the store by itself
    await store.cores.put("acme", "x", writeCore(foreign), { source: "test", publish: "now" });
    const error = await assertRejects(() => catalog.find("acme/x"), UnservableError);
    const { status, details } = toApiError(error, "");
    assertEquals([status, details.param, details.code], [400, "model", "factors_not_found"]);
  }));

Deno.test("a checkpoint whose factor set comes after it was asked for is served from then on", () =>
  withCatalog(async (_catalog, { registry, factors: loaded }, cores, store) => {
    const late = randomFactors({ stack: registry.stack, rank: 4, seed: 7 });
    assertEquals(late.digest === loaded.digest, false);
    using tuned = new TunedModels({ store, cores, registry });
    const job = await store.forTenant("acme").jobs.create(jobOf("acme"));
    await tuned.addCheckpoint(job, { core: someCore(late, 1) }, 3, { step: 3 });
    const name = checkpointName(job, 3);
    assertEquals(await tuned.find(name), undefined);
    // as whoever uploads the set, or trains over it, does
    await store.factors.add(late.digest, writeFactors(late));
    assertEquals((await tuned.find(name))?.factors, late.digest);
  }));

Deno.test("a tuned model's name says tenant and job, whatever its base is called", () => {
  const parsed = { model: "ft:hf:o/n:acme::abcdefgh", tenant: "acme", tail: "abcdefgh" };
  assertEquals(parseTunedName(parsed.model), { ...parsed, step: undefined });
  assertEquals(parseTunedName(`${parsed.model}:ckpt-step-12`), { ...parsed, step: 12 });
  const wrong = [
    "ft:",
    "ft:a:b:c",
    "tiny:acme:x:abcdefgh",
    "ft:tiny:acme:x:short",
    "ft:t::x:abcdefgh",
  ];
  for (const text of wrong) assertEquals(parseTunedName(text), undefined, text);
});

function never(): never {
  throw new Error("there was one");
}
