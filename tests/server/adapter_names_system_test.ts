// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * An adapter keeps the name that it was loaded by, as a controller needs that compares what is listed
 * with what should be (the Kubernetes lora-syncer): load, list, serve, measure, unload, over a store.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { writeCore } from "../../adapters/lotr/format.ts";
import { someCore } from "./engine_context.ts";
import { errorOf, type Json, type KeyedApp, openKeyedApp } from "./keyed_app.ts";

async function withAdapters(body: (served: KeyedApp) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await using served = await openKeyedApp({ open: true, directory });
    for (const seed of [1, 2]) {
      const core = writeCore(someCore(served.loaded.factors, seed));
      await Deno.writeFile(`${directory}/core${seed}.safetensors`, core);
    }
    await body(served);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function listed({ ask }: KeyedApp, tenant?: string): Promise<readonly string[]> {
  const headers = tenant === undefined ? {} : { "lembas-tenant": tenant };
  const { data } = await (await ask("GET", "/v1/models", { headers })).json();
  return data.map(({ id }: Json) => id);
}

function load({ ask }: KeyedApp, lora_name: string, lora_path = "core1.safetensors", more = {}) {
  const json = { lora_name, lora_path, base_model_name: "tiny", ...more };
  return ask("POST", "/v1/load_lora_adapter", { json });
}

Deno.test("a controller that compares names loads, keeps and unloads what it should", () =>
  withAdapters(async (served) => {
    const { ask } = served;
    for (let round = 0; round < 3; round++) {
      const wanted = round % 2 === 0 ? ["sc-shelf", "acme/haiku"] : [];
      const there = await listed(served);
      for (const name of wanted.filter((name) => !there.includes(name))) {
        assertEquals((await load(served, name)).status, 200);
      }
      for (const lora_name of there.filter((id) => id !== "tiny" && !wanted.includes(id))) {
        const gone = await ask("POST", "/v1/unload_lora_adapter", { json: { lora_name } });
        assertEquals(gone.status, 200);
      }
      assertEquals((await listed(served)).toSorted(), [...wanted, "tiny"].toSorted());
    }
    const again = await errorOf(await load(served, "sc-shelf"));
    assertEquals(again.status, 400);
    assertStringIncludes(again.message, "'sc-shelf' has already been loaded");
    const unload = { json: { lora_name: "sc-shelf" } };
    assertEquals((await ask("POST", "/v1/unload_lora_adapter", unload)).status, 200);
    assertEquals((await ask("POST", "/v1/unload_lora_adapter", unload)).status, 404);
  }));

Deno.test("a path that is not there is 404, and so is one outside of the directory", () =>
  withAdapters(async (served) => {
    for (const path of ["nowhere.safetensors", "../core1.safetensors"]) {
      const { status, code } = await errorOf(await load(served, "x", path));
      assertEquals([status, code], [404, "adapter_path_not_found"], path);
    }
    assertEquals(await listed(served), ["tiny"]);
  }));

Deno.test("each tenant sees its own adapters by their plain names; any spelling is served", () =>
  withAdapters(async (served) => {
    const { ask } = served;
    await load(served, "sc-shelf");
    await load(served, "acme/sc-shelf", "core2.safetensors");
    assertEquals(await listed(served), ["tiny", "acme/sc-shelf", "sc-shelf"]);
    assertEquals(await listed(served, "acme"), ["tiny", "sc-shelf", "default/sc-shelf"]);
    for (const name of ["sc-shelf", "default/sc-shelf", "sc-shelf@1", "acme/sc-shelf@1"]) {
      const json = { model: name, prompt: "a", max_tokens: 1 };
      assertEquals((await ask("POST", "/v1/completions", { json })).status, 200, name);
    }
    await load(served, "sc-shelf", "core2.safetensors", { load_inplace: true });
    const one = await (await ask("GET", "/v1/models/sc-shelf")).json();
    assertEquals([one.id, one.full_name], ["sc-shelf", "default/sc-shelf@2"]);
  }));

Deno.test("the metrics name a running adapter as it was loaded", () =>
  withAdapters(async (served) => {
    await load(served, "sc-shelf");
    const json = {
      model: "sc-shelf",
      prompt: "a",
      max_tokens: 200,
      ignore_eos: true,
      stream: true,
    };
    const running = await served.ask("POST", "/v1/completions", { json });
    const { text } = await served.context.metrics.expose();
    assertStringIncludes(text, 'running_lora_adapters="sc-shelf"');
    await running.body?.cancel();
  }));
