/** Opens devices by name, or says in one sentence why a device does not work here. */

import { CpuDevice } from "./cpu.ts";
import type { Device } from "./device.ts";
import { Ort } from "./onnx/ort.ts";
import { cString, openLibrary, pointerArray } from "./onnx/ort_api.ts";

/** A device's name, or "auto" for the best one that works here (the CPU for now). */
export type DeviceKind = "auto" | Device["name"];

/**
 * Opens a device. Release everything made with it first: what is still in use keeps the native
 * library loaded.
 *
 * @throws {Deno.errors.NotSupported} saying in one sentence what the device lacks.
 */
export function openDevice(kind: DeviceKind): Device {
  const ort = new Ort(openLibrary());
  if (kind === "auto" || kind === "cpu") return new CpuDevice(ort);
  try {
    throw new Deno.errors.NotSupported(kind === "cuda" ? lackOfCuda(ort) : lackOfWebGpu(ort));
  } finally {
    ort.release();
  }
}

const NOT_YET = "lembas has no kernels for it yet: use --device cpu";

function lackOfCuda(ort: Ort): string {
  const { folder, version } = ort.library;
  const file = Deno.build.os === "windows"
    ? "onnxruntime_providers_cuda.dll"
    : "libonnxruntime_providers_cuda.so";
  if (exists(`${folder}/${file}`)) return `Cannot use CUDA: ${file} is there, but ${NOT_YET}`;
  return `Cannot use CUDA: ${file} is not in the npm package; the Python wheel ` +
    `onnxruntime-gpu==${version} has it, with libonnxruntime_providers_shared.so ` +
    `(copy both to ${folder}, beside CUDA 13 and cuDNN 9)`;
}

function lackOfWebGpu(ort: Ort): string {
  if (Deno.build.os === "linux" && !loads("libvulkan.so.1")) {
    return "Cannot use WebGPU: libvulkan.so.1 is not installed " +
      "(Debian: apt install libvulkan1 and the graphics card's Vulkan driver)";
  }
  const adapter = adapterError(ort);
  if (adapter !== undefined) return `Cannot use WebGPU: ${adapter}`;
  return `Cannot use WebGPU: an adapter was found, but ${NOT_YET}`;
}

/** Why ONNX Runtime's WebGPU provider does not start here; undefined where it does. */
function adapterError(ort: Ort): string | undefined {
  const { api } = ort;
  const options = ort.handle(
    "session options",
    (out) => api.CreateSessionOptions(out),
    api.ReleaseSessionOptions,
  );
  const none = pointerArray([]);
  const status = api.SessionOptionsAppendExecutionProvider(
    options.pointer,
    cString("WebGPU"),
    none,
    none,
    0n,
  );
  options.release();
  return ort.error(status, "start the provider")?.message;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function loads(library: string): boolean {
  try {
    Deno.dlopen(library, {}).close();
    return true;
  } catch {
    return false;
  }
}
