/** Opens devices by name, or says in one sentence why a device does not work here. */

import { CpuDevice } from "./cpu.ts";
import { openCuda } from "./cuda/open.ts";
import type { Device } from "./device.ts";
import { libraryOpens } from "./libraries.ts";
import { Ort } from "./onnx/ort.ts";
import { openLibrary } from "./onnx/ort_api.ts";
import { appendProvider, type Provider } from "./onnx/session.ts";
import { adapterText, VULKAN_LIBRARY, vulkanAdapters } from "./vulkan.ts";
import { ProviderDevice } from "./provider/device.ts";
import { WebGpuProcess } from "./webgpu/process.ts";

/** A device's name; a number says which of several, in the order of `deno task doctor`. */
export type DeviceKind = Device["name"] | `${"webgpu" | "cuda"}:${number}`;

/**
 * Opens a device. Release everything made with it first: what is still in use keeps the native
 * library loaded.
 *
 * @throws {Deno.errors.NotSupported} saying in one sentence what the device lacks.
 */
export function openDevice(kind: DeviceKind): Device {
  const [name, number] = kind.split(":");
  const index = number === undefined ? undefined : Number(number);
  if (name === "webgpu") return openWebGpu(index);
  const ort = new Ort(openLibrary());
  if (name !== "cuda") return new CpuDevice(ort);
  try {
    return openCuda(ort.library, index === undefined ? {} : { index });
  } finally {
    ort.release();
  }
}

/** Bytes of the largest tensor where no driver was asked: what desktop drivers allow at least. */
const USUAL_LARGEST = 2 ** 30;

/**
 * A process has one context for WebGPU, whoever uses it: one adapter, one queue, and one device that may
 * fail.
 */
const WEBGPU = new WebGpuProcess();

function openWebGpu(index: number | undefined): Device {
  const name = index === undefined ? "WebGPU" : `webgpu:${index}`;
  const library = openLibrary();
  library.keep();
  const ort = new Ort(library, WEBGPU.queue, (error) => WEBGPU.failures.explain(error));
  const lack = lackOfVulkan() ?? WEBGPU.select(vulkanAdapters() ?? [], index) ??
    lackOfProvider(ort, WEBGPU.provider);
  if (lack === undefined) {
    const { queue, failures, provider, adapter } = WEBGPU;
    return new ProviderDevice(ort, {
      ...{ name: "webgpu", queue, failures, provider },
      // shapes that stay on the device are int64
      capturing: { enableGraphCapture: "1", enableInt64: "1" },
      memory: { name: "WebGPU_Buf", index: 0 },
      adapter: adapter && adapterText(adapter),
      largestTensor: adapter?.largest ?? USUAL_LARGEST,
    });
  }
  ort.release();
  throw new Deno.errors.NotSupported(`Cannot use ${name}: ${lack}`);
}

function lackOfVulkan(): string | undefined {
  if (Deno.build.os !== "linux") return undefined;
  if (!libraryOpens(VULKAN_LIBRARY)) {
    return "libvulkan.so.1 is not installed " +
      "(Debian: apt install libvulkan1 and the graphics card's Vulkan driver)";
  }
  return vulkanAdapters() === undefined
    ? "the libvulkan.so.1 that the system finds is no Vulkan loader (is LD_LIBRARY_PATH right?)"
    : undefined;
}

function lackOfProvider(ort: Ort, provider: Provider): string | undefined {
  const error = providerError(ort, provider);
  const adapter = /Failed to get a WebGPU adapter: (.*)$/.exec(error ?? "")?.[1];
  return adapter === undefined ? error : `no graphics device with a driver was found (${adapter})`;
}

/** Why ONNX Runtime's WebGPU provider does not start here; undefined where it does. */
function providerError(ort: Ort, provider: Provider): string | undefined {
  const { api } = ort;
  const options = ort.handle(
    "session options",
    (out) => api.CreateSessionOptions(out),
    api.ReleaseSessionOptions,
  );
  const status = appendProvider(ort, options.pointer, provider);
  options.release();
  return ort.error(status, "start the provider")?.message;
}
