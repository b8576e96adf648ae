/** Which adapter is taken, and how another one is, where that can be. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { Adapter } from "../../../src/runtime/vulkan.ts";
import { WebGpuProcess } from "../../../src/runtime/webgpu/process.ts";
import { selectionOf, takenAdapter } from "../../../src/runtime/webgpu/selection.ts";

function adapter(name: string, type: Adapter["type"], model: number): Adapter {
  const sizes = { memory: 2 ** 34, largest: 2 ** 32, float16: true, lanes: 32 };
  return { name, type, vendor: 0x10de, model, ...sizes };
}

const SOFTWARE = adapter("software", "software", 1);
const INTEGRATED = adapter("integrated", "integrated", 2);
const [FIRST, TWIN] = ["first", "twin"].map((name) => adapter(name, "discrete", 3));
const OTHER = adapter("other", "discrete", 4);
const ALL = [SOFTWARE, INTEGRATED, FIRST, TWIN, OTHER];

Deno.test("the first discrete adapter is taken, an integrated one before software", () => {
  assertEquals(takenAdapter(ALL), FIRST);
  assertEquals(takenAdapter([SOFTWARE, INTEGRATED]), INTEGRATED);
  assertEquals(takenAdapter([SOFTWARE]), SOFTWARE);
  assertEquals(takenAdapter([]), undefined);
});

Deno.test("a number has an adapter taken by model and preference, or says why it cannot", () => {
  assertEquals(selectionOf(ALL, 2), { preference: "high-performance", first: "10de:3" });
  assertEquals(selectionOf(ALL, 4), { preference: "high-performance", first: "10de:4" });
  assertEquals(selectionOf(ALL, 1), { preference: "low-power", first: "10de:2" });
  assertEquals(selectionOf([SOFTWARE], 0), { preference: "high-performance", first: "10de:1" });
  assertStringIncludes(String(selectionOf(ALL, 3)), "webgpu:2 is of the same model (twin)");
  assertStringIncludes(
    String(selectionOf(ALL, 0)),
    "it is software, and WebGPU takes first before",
  );
  assertEquals(selectionOf([FIRST, OTHER], 2), "Vulkan lists webgpu:0 first, webgpu:1 other");
  assertEquals(selectionOf([], 0), "Vulkan lists no adapter");
});

Deno.test("a process keeps the adapter that was taken first", () => {
  const one = new WebGpuProcess();
  assertEquals(one.select([SOFTWARE, FIRST]), undefined);
  assertEquals([one.adapter, one.provider.options], [FIRST, {}]);
  assertEquals(one.select([SOFTWARE, FIRST]), undefined);
  assertEquals(one.select([SOFTWARE, FIRST], 0), "this process uses first already");
});
