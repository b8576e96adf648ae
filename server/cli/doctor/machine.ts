/** What the machine is, apart from its devices: versions, system, processor, memory, cache. */
import { listPrepared } from "../../../adapters/prepared_weights.ts";
import { physicalCores, processor } from "../../../src/runtime/cpu.ts";
import type { Device } from "../../../src/runtime/device.ts";
import { bytesUnder, freeBytes } from "../../../src/util/disk.ts";
import { cacheDirectory } from "../../../src/util/cache_directory.ts";

export interface SystemFacts {
  /** As its makers call it, such as "Debian GNU/Linux 12 (bookworm)". */
  readonly name: string;
  readonly kernel: string;
  readonly arch: string;
}

export interface ProcessorFacts {
  readonly model: string;
  readonly cores: number;
  readonly threads: number;
  /** Of those that decide how fast kernels are, the ones that it has. */
  readonly features: readonly string[];
}

export interface MemoryFacts {
  readonly total: number;
  readonly available: number;
}

/** Bytes in the cache directory, whose path is without the user's home. */
export interface CacheFacts {
  readonly path: string;
  readonly free: number;
  readonly models: number;
  /** Prepared weights, and how many of them this version on this processor cannot use. */
  readonly weights: { readonly count: number; readonly bytes: number; readonly stale: number };
  readonly cuda: number;
}

/** What kernels choose by: on x86-64, on ARM. Linux tells them. */
const FEATURES = [
  ...["avx2", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"],
  ...["asimd", "asimddp", "i8mm", "bf16", "sve"],
] as const;

export function systemFacts(): SystemFacts {
  const { os, arch } = Deno.build;
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(readText("/etc/os-release"))?.[1];
  return { name: name ?? os, kernel: `${os} ${Deno.osRelease()}`, arch };
}

export async function processorFacts(): Promise<ProcessorFacts> {
  const flags = new Set(processor().split(" "));
  return {
    model: await processorModel(),
    cores: physicalCores(),
    threads: navigator.hardwareConcurrency,
    features: FEATURES.filter((name) => flags.has(name)),
  };
}

export function memoryFacts(): MemoryFacts {
  const { total, available } = Deno.systemMemoryInfo();
  return { total, available };
}

export async function cacheFacts(device: Device): Promise<CacheFacts> {
  const path = cacheDirectory();
  const prepared = await listPrepared(device);
  return {
    path: withoutHome(path, Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE")),
    free: freeBytes(path),
    models: bytesUnder(`${path}/models`),
    weights: {
      count: prepared.length,
      bytes: prepared.reduce((sum, { bytes }) => sum + bytes, 0),
      stale: prepared.filter(({ stale }) => stale).length,
    },
    cuda: bytesUnder(`${path}/cuda`),
  };
}

/** A text without the user's home, and so without the user's name. */
export function withoutHome(text: string, home: string | undefined): string {
  return home === undefined || home.length < 2 ? text : text.replaceAll(home, "~");
}

async function processorModel(): Promise<string> {
  switch (Deno.build.os) {
    case "linux":
      return /^model name\s*:\s*(.*)$/m.exec(readText("/proc/cpuinfo"))?.[1] ?? "unknown";
    case "darwin":
      return await printed("sysctl", "-n", "machdep.cpu.brand_string");
    default:
      return Deno.env.get("PROCESSOR_IDENTIFIER") ?? "unknown";
  }
}

async function printed(program: string, ...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await new Deno.Command(program, { args: [...args] }).output();
    return new TextDecoder().decode(stdout).trim() || "unknown";
  } catch {
    return "unknown";
  }
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
