/**
 * What `--device auto` takes, and why not the others, found out in a few milliseconds: which files of
 * drivers are there, nothing is started. A graphics device in software is never taken.
 */
import { DRIVER_LIBRARY } from "./cuda/driver.ts";
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };
import { cudaFolder } from "./cuda/layout.ts";
import { cudaCanBe } from "./cuda/open.ts";
import type { Device } from "./device.ts";
import { libraryOpens } from "./libraries.ts";

/** The loader of Vulkan drivers, through which WebGPU finds graphics devices on Linux. */
export const VULKAN_LIBRARY = "libvulkan.so.1";

export interface Choice {
  readonly device: Device["name"];
  /** Why not what would be faster, in a few words. */
  readonly why: string;
}

/** What decides. */
export interface DriverFiles {
  readonly cuda: "elsewhere" | "none" | "driver" | "set up";
  readonly graphics: "none" | "loader" | "driver";
}

/** Chooses by what is there. */
export function chooseDevice(): Choice {
  return choiceOf({ cuda: cudaFiles(), graphics: graphicsFiles() });
}

/** The choice where these are there. GPUs serve where they are asked for: none was seen yet. */
export function choiceOf({ cuda, graphics }: DriverFiles): Choice {
  const why = [CUDA[cuda], GRAPHICS[graphics]].filter((text) => text !== "");
  return { device: "cpu", why: why.join(", ") };
}

const CUDA: { readonly [K in DriverFiles["cuda"]]: string } = {
  elsewhere: "",
  none: "no NVIDIA driver",
  driver: "NVIDIA's driver is there, but deno task setup:cuda was not run",
  "set up": "CUDA is not taken by itself yet (--device cuda)",
};

const GRAPHICS: { readonly [K in DriverFiles["graphics"]]: string } = {
  none: "no Vulkan loader",
  loader: "no Vulkan adapter",
  driver: "WebGPU is not taken by itself yet (--device webgpu)",
};

function cudaFiles(): DriverFiles["cuda"] {
  if (!cudaCanBe()) return "elsewhere";
  if (!libraryOpens(DRIVER_LIBRARY)) return "none";
  return isThere(cudaFolder(onnxruntime.version)) ? "set up" : "driver";
}

/** A graphics device that is no software has a file of its driver's; Metal and D3D12 are always there. */
function graphicsFiles(): DriverFiles["graphics"] {
  if (Deno.build.os !== "linux") return "driver";
  if (!libraryOpens(VULKAN_LIBRARY)) return "none";
  return hasGraphicsFile() ? "driver" : "loader";
}

/** Files of the kernel's graphics drivers: Mesa's, NVIDIA's, and those of Windows' Linux. */
function hasGraphicsFile(): boolean {
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
