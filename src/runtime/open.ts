/**
 * Opens devices by name. It knows which exist and what each one needs; the devices themselves are
 * in their own files.
 */

import { CpuDevice } from "./cpu.ts";
import type { Device } from "./device.ts";
import { Ort } from "./ort.ts";
import { openLibrary } from "./ort_api.ts";

/** A device's name, or "auto" for the best one that works here (the CPU for now). */
export type DeviceKind = "auto" | Device["name"];

/**
 * Opens a device. Release it when everything made with it was released; what is still in use
 * keeps the native library loaded.
 *
 * @throws {Deno.errors.NotSupported} saying in one sentence what the device lacks.
 */
export function openDevice(kind: DeviceKind): Device {
  const ort = new Ort(openLibrary());
  switch (kind) {
    case "auto":
    case "cpu":
      return new CpuDevice(ort);
    case "webgpu":
    case "cuda":
      ort.release();
      throw new Deno.errors.NotSupported(`Cannot open device ${kind}`);
  }
}
