/** Opening devices by name, and what each says where it cannot be used. */

import { assertEquals, assertGreaterOrEqual, assertIsError, assertThrows } from "@std/assert";
import { openDevice } from "../../src/runtime/open.ts";
import { coresOf, physicalCores } from "../../src/runtime/cpu.ts";
import { doublingModel } from "./models.ts";

Deno.test("cuda says in one sentence what it lacks, and webgpu too where there is no graphics device", () => {
  assertThrows(() => openDevice("cuda"), Deno.errors.NotSupported, "Cannot use CUDA: ");
  try {
    using device = openDevice("webgpu");
    assertEquals(device.name, "webgpu");
  } catch (error) {
    assertIsError(error, Deno.errors.NotSupported, "Cannot use WebGPU: ");
  }
});

Deno.test("devices open side by side and again after release", async () => {
  const first = openDevice("cpu");
  using second = openDevice("cpu");
  first.release();
  using third = openDevice("cpu");
  for (const device of [second, third]) {
    using session = await device.session(doublingModel("float32"));
    assertEquals(session.outputs.map(({ name }) => name), ["y"]);
  }
});

Deno.test("physical cores are counted once each", () => {
  const thread = (processor: number, socket: number, core: number) =>
    `processor\t: ${processor}\nphysical id\t: ${socket}\ncore id\t\t: ${core}\n`;
  const text = [thread(0, 0, 0), thread(1, 0, 1), thread(2, 0, 0), thread(3, 1, 0)].join("\n");
  assertEquals(coresOf(text), 3);
  assertEquals(coresOf("processor\t: 0\nBogoMIPS\t: 50\n"), 0);
  assertGreaterOrEqual(physicalCores(), 1);
});
