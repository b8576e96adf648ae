/** Opens devices by name, or says in one sentence why a device does not work here. */

import { chooseDevice, VULKAN_LIBRARY } from "./auto.ts";
import { CpuDevice } from "./cpu.ts";
import { openCuda } from "./cuda/open.ts";
import type { Device } from "./device.ts";
import { libraryOpens } from "./libraries.ts";
import { CallQueue } from "./onnx/call_queue.ts";
import { Ort } from "./onnx/ort.ts";
import { openLibrary } from "./onnx/ort_api.ts";
import { appendProvider } from "./onnx/session.ts";
import { takenAdapter, vulkanAdapters } from "./vulkan.ts";
import { WEBGPU, WebGpuDevice } from "./webgpu/device.ts";
import { DeviceFailures } from "./webgpu/failures.ts";

/** A device's name, or "auto" for the best one that works here (the CPU for now). */
export type DeviceKind = "auto" | Device["name"];

/**
 * Opens a device. Release everything made with it first: what is still in use keeps the native
 * library loaded.
 *
 * @throws {Deno.errors.NotSupported} saying in one sentence what the device lacks.
 */
export function openDevice(kind: DeviceKind): Device {
  if (kind === "auto") return openDevice(chooseDevice().device);
  if (kind === "webgpu") return openWebGpu();
  const ort = new Ort(openLibrary());
  if (kind !== "cuda") return new CpuDevice(ort);
  try {
    throw new Deno.errors.NotSupported(lackOfCuda(ort));
  } finally {
    ort.release();
  }
}

/** A process has one context for WebGPU, whoever uses it: one queue, and one device that may fail. */
const WEBGPU_CALLS = new CallQueue();
const WEBGPU_FAILURES = new DeviceFailures();

function openWebGpu(): Device {
  const library = openLibrary();
  library.keep();
  const [queue, failures] = [WEBGPU_CALLS, WEBGPU_FAILURES];
  const ort = new Ort(library, queue, (error) => failures.explain(error));
  const lack = lackOfWebGpu(ort);
  const adapter = takenAdapter(vulkanAdapters() ?? []);
  if (lack === undefined) return new WebGpuDevice(ort, { queue, failures, adapter });
  ort.release();
  throw new Deno.errors.NotSupported(`Cannot use WebGPU: ${lack}`);
}

const NOT_YET = "lembas has no kernels for it yet: use --device cpu";

function lackOfCuda(ort: Ort): string {
  openCuda(ort.library).release();
  return `Cannot use CUDA: its provider finds a GPU, but ${NOT_YET}`;
}

function lackOfWebGpu(ort: Ort): string | undefined {
  if (Deno.build.os === "linux" && !libraryOpens(VULKAN_LIBRARY)) {
    return "libvulkan.so.1 is not installed " +
      "(Debian: apt install libvulkan1 and the graphics card's Vulkan driver)";
  }
  if (Deno.build.os === "linux" && vulkanAdapters() === undefined) {
    return "the libvulkan.so.1 that the system finds is no Vulkan loader (is LD_LIBRARY_PATH right?)";
  }
  const error = providerError(ort);
  const adapter = /Failed to get a WebGPU adapter: (.*)$/.exec(error ?? "")?.[1];
  return adapter === undefined ? error : `no graphics device with a driver was found (${adapter})`;
}

/** Why ONNX Runtime's WebGPU provider does not start here; undefined where it does. */
function providerError(ort: Ort): string | undefined {
  const { api } = ort;
  const options = ort.handle(
    "session options",
    (out) => api.CreateSessionOptions(out),
    api.ReleaseSessionOptions,
  );
  const status = appendProvider(ort, options.pointer, WEBGPU);
  options.release();
  return ort.error(status, "start the provider")?.message;
}
