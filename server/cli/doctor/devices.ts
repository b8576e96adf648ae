/** What each kind of device lacks here, as opening it says, and what its driver tells of it. */
import { type Driver, readDriver } from "../../../src/runtime/cuda/driver.ts";
import { cudaFolder, lackOfLayout, type RuntimeBuild } from "../../../src/runtime/cuda/layout.ts";
import { cudaCanBe } from "../../../src/runtime/cuda/open.ts";
import { type DeviceKind, openDevice } from "../../../src/runtime/open.ts";
import { type Adapter, vulkanAdapters } from "../../../src/runtime/vulkan.ts";

export interface WebGpuFacts {
  /** Vulkan's adapters; undefined without its loader, and where the system has another way. */
  readonly adapters: readonly Adapter[] | undefined;
  /** Why it does not open, in a sentence; undefined where it does. */
  readonly lack: string | undefined;
}

export interface CudaFacts {
  readonly driver: Driver;
  /** Whether `deno task setup:cuda` has set everything up for this version. */
  readonly setUp: boolean;
  readonly lack: string | undefined;
}

export function webGpuFacts(): WebGpuFacts {
  const adapters = Deno.build.os === "linux" ? vulkanAdapters() : undefined;
  return { adapters, lack: lackOf("webgpu") };
}

export function cudaFacts(build: RuntimeBuild): CudaFacts {
  const setUp = cudaCanBe() && lackOfLayout(cudaFolder(build.version), build) === undefined;
  return { driver: readDriver(), setUp, lack: lackOf("cuda") };
}

function lackOf(kind: DeviceKind): string | undefined {
  try {
    openDevice(kind).release();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
