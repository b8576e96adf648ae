/** What `--device auto` takes, by what is there and by what works. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  cardOf,
  choicesOf,
  chooseDevices,
  foretold,
  openFirst,
  UnfitDeviceError,
} from "../../src/runtime/auto.ts";
import { type Device, RuntimeError } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import type { Adapter } from "../../src/runtime/vulkan.ts";
import { DeviceFailedError } from "../../src/util/errors.ts";
import { onWebGpu, SoftwareGpu } from "../programs/software_gpu.ts";

const ALL = choicesOf({ cuda: "set up", graphics: "card" });

/** Opens nothing: fails as told, by device. */
function failing(errors: Partial<Record<Device["name"], Error>>) {
  return (device: Device["name"]) => {
    const error = errors[device];
    return error === undefined ? Promise.resolve(`on ${device}`) : Promise.reject(error);
  };
}

Deno.test("auto tries CUDA, then WebGPU, then the CPU, and says why not what is better", () => {
  assertEquals(ALL, { devices: ["cuda", "webgpu", "cpu"], passed: [] });
  assertEquals(choicesOf({ cuda: "none", graphics: "card" }), {
    devices: ["webgpu", "cpu"],
    passed: ["no NVIDIA driver"],
  });
  assertEquals(choicesOf({ cuda: "none", graphics: "none" }), {
    devices: ["cpu"],
    passed: ["no NVIDIA driver", "no Vulkan loader"],
  });
  const graphics = ["none", "no card", "no driver", "software", "untold"] as const;
  const reasons = (["elsewhere", "none", "driver"] as const).flatMap((cuda) =>
    graphics.map((graphics) => choicesOf({ cuda, graphics }))
  );
  assertEquals(new Set(reasons.map(({ passed }) => passed.join())).size, reasons.length);
  assert(reasons.every(({ devices, passed }) => devices.join() === "cpu" && !passed.includes("")));
});

Deno.test("Vulkan's adapters are a card where one of them is, and a device in software is none", () => {
  const found = (...types: readonly Adapter["type"][]) => cardOf(types.map((type) => ({ type })));
  assertEquals([found(), found("software"), found("software", "other")], [
    "no driver",
    "software",
    "software",
  ]);
  for (const type of ["discrete", "integrated", "virtual"] as const) {
    assertEquals(found("software", type), "card");
  }
});

Deno.test("the first device that works is taken; one that opened and failed is told of", async () => {
  const tried = async (errors: Partial<Record<Device["name"], Error>>) => {
    const told: string[] = [];
    const tell = (device: string, message: string) => told.push(`${device}: ${message}`);
    return { ...await openFirst(ALL, failing(errors), tell), told };
  };
  assertEquals(await tried({}), { opened: "on cuda", device: "cuda", why: "", told: [] });
  const lack = new Deno.errors.NotSupported("Cannot use CUDA: no GPU");
  assertEquals(await tried({ cuda: lack }), {
    ...{ opened: "on webgpu", device: "webgpu", told: [] },
    why: "Cannot use CUDA: no GPU",
  });
  const faults = [
    new RuntimeError("no kernel", "FAIL"),
    new DeviceFailedError("it was lost"),
    new UnfitDeviceError("attention is wrong"),
    new RangeError("too large"),
  ];
  for (const fault of faults) {
    assertEquals(await tried({ cuda: lack, webgpu: fault }), {
      ...{ opened: "on cpu", device: "cpu" },
      why: "Cannot use CUDA: no GPU, webgpu failed",
      told: [`webgpu: it is not taken, the next one is tried: ${fault.message}`],
    });
  }
});

Deno.test("what is no fault of a device ends the search, and the CPU's error is the last", async () => {
  const quiet = () => {};
  const file = new TypeError("no such model");
  await assertRejects(() => openFirst(ALL, failing({ cuda: file }), quiet), TypeError, "no such");
  const fault = new RangeError("too large for it");
  const errors = { cuda: fault, webgpu: fault, cpu: new RangeError("too large for the CPU") };
  await assertRejects(() => openFirst(ALL, failing(errors), quiet), RangeError, "for the CPU");
});

Deno.test("what would be taken opens, and the CPU always does", () => {
  assertEquals(foretold(ALL, (device) => `no ${device}`), {
    device: "cpu",
    why: "no cuda, no webgpu",
  });
  assertEquals(foretold(ALL, () => undefined), { device: "cuda", why: "" });
  const lackOf = (device: Device["name"]) => {
    try {
      openDevice(device).release();
      return undefined;
    } catch (error) {
      return String(error);
    }
  };
  using opened = openDevice(foretold(chooseDevices(), lackOf).device);
  assert(chooseDevices().devices.includes(opened.name));
});

Deno.test(onWebGpu("a graphics device in software is found as one, and not tried"), async () => {
  await using gpu = await SoftwareGpu.unpack();
  const found = await gpu.run(new URL("./adapters_worker.ts", import.meta.url));
  const { adapters, choices } = found as {
    adapters: readonly Adapter[];
    choices: ReturnType<typeof chooseDevices>;
  };
  const [adapter] = adapters;
  assertEquals(adapter?.type, "software");
  assert(adapter.name.startsWith("SwiftShader"), adapter.name);
  assert(adapter.memory > 2 ** 28 && !adapter.float16);
  assertEquals(cardOf(adapters), "software");
  assert(!choices.devices.includes("webgpu"), choices.devices.join());
  assert(!choices.passed.includes("no Vulkan loader"), choices.passed.join());
});
