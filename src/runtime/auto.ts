/**
 * What `--device auto` takes: CUDA, then WebGPU on a card, then the CPU, whatever of them works. What
 * is out of the question is told by files of drivers, in a few milliseconds, so that a machine without
 * a card starts as if it had been told `cpu`. A graphics device in software is never taken.
 */
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };
import { DeviceFailedError } from "../util/errors.ts";
import { DRIVER_LIBRARY } from "./cuda/driver.ts";
import { cudaFolder } from "./cuda/layout.ts";
import { cudaCanBe } from "./cuda/open.ts";
import { type Device, RuntimeError } from "./device.ts";
import { libraryOpens } from "./libraries.ts";
import { type Adapter, VULKAN_LIBRARY, vulkanAdapters } from "./vulkan.ts";

/** Devices to be tried, and why others are not. */
export interface Choices {
  /** Best first; the CPU is the last. */
  readonly devices: readonly Device["name"][];
  /** Of each that is better than the CPU and not tried, why, in a few words. */
  readonly passed: readonly string[];
}

/** A device that was taken. */
export interface Choice {
  readonly device: Device["name"];
  /** Why nothing better was, in a few words; empty where there is nothing better. */
  readonly why: string;
}

/** What decides. */
export interface Drivers {
  readonly cuda: "elsewhere" | "none" | "driver" | "set up";
  readonly graphics: "none" | "no card" | "no driver" | "software" | "untold" | "card";
}

/** A device opens and computes what is wrong. */
export class UnfitDeviceError extends Error {
  override readonly name = "UnfitDeviceError";
}

/** What is worth a try here. */
export function chooseDevices(): Choices {
  return choicesOf({ cuda: cudaFiles(), graphics: graphicsDrivers() });
}

/** The same where these are there. */
export function choicesOf({ cuda, graphics }: Drivers): Choices {
  const devices: Device["name"][] = [];
  if (cuda === "set up") devices.push("cuda");
  if (graphics === "card") devices.push("webgpu");
  const passed = [CUDA[cuda], GRAPHICS[graphics]].filter((text) => text !== "");
  return { devices: [...devices, "cpu"], passed };
}

const CUDA: { readonly [K in Drivers["cuda"]]: string } = {
  elsewhere: "",
  none: "no NVIDIA driver",
  driver: "NVIDIA's driver is there, but deno task setup:cuda was not run",
  "set up": "",
};

const GRAPHICS: { readonly [K in Drivers["graphics"]]: string } = {
  none: "no Vulkan loader",
  "no card": "no graphics card",
  "no driver": "no Vulkan driver for the graphics card",
  software: "Vulkan has a device in software alone",
  untold: "WebGPU does not say here whether its device is a card (--device webgpu takes it)",
  card: "",
};

/** What a try of a device comes to. */
export interface Taken<T> extends Choice {
  readonly opened: T;
}

/**
 * Opens the first device with which `attempt` succeeds.
 * @param onFailure hears, before the next one is tried, of a device that opened and then failed
 * @throws what `attempt` throws that is no fault of a device, or on the last one
 */
export async function openFirst<T>(
  { devices, passed }: Choices,
  attempt: (device: Device["name"]) => Promise<T>,
  onFailure: (device: Device["name"], message: string) => void,
): Promise<Taken<T>> {
  const why = [...passed];
  for (const device of devices.slice(0, -1)) {
    try {
      return { opened: await attempt(device), ...settled(device, why) };
    } catch (error) {
      if (!isDeviceFault(error)) throw error;
      if (error instanceof Deno.errors.NotSupported) {
        why.push(error.message);
        continue;
      }
      why.push(`${device} failed`);
      onFailure(device, `it is not taken, the next one is tried: ${error.message}`);
    }
  }
  const [last = "cpu"] = devices.slice(-1);
  return { opened: await attempt(last), ...settled(last, why) };
}

/** What would be taken, as far as opening tells. @param lackOf why a device does not open */
export function foretold(
  { devices, passed }: Choices,
  lackOf: (device: Device["name"]) => string | undefined,
): Choice {
  const why = [...passed];
  for (const device of devices) {
    const lack = device === "cpu" ? undefined : lackOf(device);
    if (lack === undefined) return settled(device, why);
    why.push(lack);
  }
  throw new Error("internal: the CPU is always tried");
}

/** CUDA has nothing better beside it. */
function settled(device: Device["name"], why: readonly string[]): Choice {
  return { device, why: device === "cuda" ? "" : why.join(", ") };
}

/** RangeErrors too: of what is asked for, a device may have less than the CPU. */
function isDeviceFault(error: unknown): error is Error {
  return [Deno.errors.NotSupported, RuntimeError, DeviceFailedError, UnfitDeviceError, RangeError]
    .some((fault) => error instanceof fault);
}

function cudaFiles(): Drivers["cuda"] {
  if (!cudaCanBe()) return "elsewhere";
  if (!libraryOpens(DRIVER_LIBRARY)) return "none";
  return isThere(cudaFolder(onnxruntime.version)) ? "set up" : "driver";
}

/** On Linux as Vulkan has it. Metal's devices are cards; Direct3D's may be software. */
function graphicsDrivers(): Drivers["graphics"] {
  if (Deno.build.os === "darwin") return "card";
  if (Deno.build.os !== "linux") return "untold";
  if (!libraryOpens(VULKAN_LIBRARY)) return "none";
  // asking Vulkan takes longer than a look at files
  return hasCardFile() ? cardOf(vulkanAdapters() ?? []) : "no card";
}

const CARDS: readonly Adapter["type"][] = ["discrete", "integrated", "virtual"];

/** What Vulkan's adapters come to: of several kinds WebGPU takes a card. */
export function cardOf(adapters: readonly Pick<Adapter, "type">[]): Drivers["graphics"] {
  if (adapters.some(({ type }) => CARDS.includes(type))) return "card";
  return adapters.length === 0 ? "no driver" : "software";
}

/** Files of the kernel's graphics drivers: Mesa's, NVIDIA's, and those of Windows' Linux. */
function hasCardFile(): boolean {
  const named = (folder: string, pattern: RegExp) => {
    try {
      return [...Deno.readDirSync(folder)].some(({ name }) => pattern.test(name));
    } catch {
      return false;
    }
  };
  return named("/dev/dri", /^renderD\d+$/) || named("/dev", /^(?:nvidia\d+|dxg)$/);
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
