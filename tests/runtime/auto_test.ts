/** What `--device auto` takes, by what is there. */
import { assert, assertEquals } from "@std/assert";
import { choiceOf, chooseDevice } from "../../src/runtime/auto.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";

Deno.test("auto says why it takes the cpu, whatever is there", () => {
  assertEquals(choiceOf({ cuda: "none", graphics: "none" }), {
    device: "cpu",
    why: "no NVIDIA driver, no Vulkan loader",
  });
  const reasons = (["elsewhere", "none", "driver", "set up"] as const).flatMap((cuda) =>
    (["none", "loader", "driver"] as const).map((graphics) => choiceOf({ cuda, graphics }))
  );
  assertEquals(new Set(reasons.map(({ why }) => why)).size, reasons.length);
  assert(reasons.every(({ device, why }) => device === "cpu" && !why.startsWith(",")));
});

Deno.test("auto opens what it says that it takes", () => {
  const { device, why } = chooseDevice();
  using opened = openDevice("auto");
  assertEquals(opened.name, device);
  assert(why !== "");
});

Deno.test(onWebGpu("a graphics device in software is found as one, and not taken"), async () => {
  await using gpu = await SoftwareGpu.unpack();
  const found = await gpu.run(new URL("./adapters_worker.ts", import.meta.url));
  const { adapters: [adapter], choice } = found as {
    adapters: readonly { name: string; type: string; memory: number; float16: boolean }[];
    choice: { device: string; why: string };
  };
  assertEquals(adapter?.type, "software");
  assert(adapter?.name.startsWith("SwiftShader"), adapter?.name);
  assert(adapter.memory > 2 ** 28 && !adapter.float16);
  assertEquals(choice.device, "cpu");
  assert(!choice.why.includes("no Vulkan loader"), choice.why);
});
