/** The CPU as a `Device`: tensors in host memory, ONNX Runtime's CPU kernels, a thread for each core. */

import type { Device, DType, SessionOptions, Tensor, TypedArrayOf } from "./device.ts";
import { openPageReleaser, type PageReleaser } from "./memory.ts";
import type { Ort } from "./onnx/ort.ts";
import { createSession, type OrtSession } from "./onnx/session.ts";
import { bytesPerElement, checkRange, HostTensor, hostTensor, hostView } from "./onnx/tensor.ts";

/** Host memory and CPU kernels. Make it with `openDevice("cpu")`. */
export class CpuDevice implements Device {
  readonly name = "cpu";
  readonly #ort: Ort;
  readonly #pages: PageReleaser = openPageReleaser();
  readonly #threads = physicalCores();
  #released = false;

  /** Takes `ort` over. */
  constructor(ort: Ort) {
    this.#ort = ort;
  }

  tensor<T extends DType>(dtype: T, shape: readonly number[], data?: TypedArrayOf<T>): Tensor {
    this.#checkOpen("make a tensor");
    return hostTensor(this.#ort, dtype, shape, data);
  }

  view(source: Tensor, offset: number, shape: readonly number[]): Tensor {
    this.#checkOpen("make a view");
    return hostView(this.#ort, hostOnly(source), offset, shape);
  }

  discard(tensor: Tensor, offset: number, count: number): void {
    this.#checkOpen("discard memory");
    const { dtype, data } = hostOnly(tensor);
    checkRange("discard", tensor, offset, count);
    const bytes = bytesPerElement(dtype);
    const start = data.byteOffset + offset * bytes;
    this.#pages.discard(new Uint8Array(data.buffer as ArrayBuffer, start, count * bytes));
  }

  async trim(): Promise<void> {
    if (!this.#released) await this.#pages.trim();
  }

  get runtimeVersion(): string {
    return this.#ort.library.version;
  }

  get liveObjects(): number {
    return this.#ort.live;
  }

  touchSparsely(tensor: Tensor): void {
    this.#checkOpen("advise on memory");
    const { data } = hostOnly(tensor);
    const buffer = data.buffer as ArrayBuffer;
    this.#pages.keepSmall(new Uint8Array(buffer, data.byteOffset, data.byteLength));
  }

  session(model: Uint8Array, options: SessionOptions = {}): Promise<OrtSession> {
    this.#checkOpen("create a session");
    return createSession(this.#ort, model, { threads: this.#threads, ...options });
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#pages.close();
    this.#ort.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #checkOpen(action: string): void {
    if (this.#released) throw new TypeError(`Cannot ${action}: the device was released`);
  }
}

function hostOnly(tensor: Tensor): HostTensor {
  if (tensor instanceof HostTensor) return tensor;
  throw new TypeError("Cannot use tensor: it was made by another device");
}

/** Physical cores that this process may use; at least 1. */
export function physicalCores(): number {
  const usable = Math.max(1, navigator.hardwareConcurrency);
  if (Deno.build.os !== "linux") return usable;
  const cores = coresOf(readText("/proc/cpuinfo"));
  return cores === 0 ? usable : Math.min(cores, usable);
}

/** Distinct (package, core) pairs in the text of `/proc/cpuinfo`; 0 where it names none. */
export function coresOf(cpuinfo: string): number {
  const pairs = cpuinfo.split("\n\n").flatMap((block) => {
    const core = /^core id\s*:\s*(\d+)/m.exec(block)?.[1];
    const socket = /^physical id\s*:\s*(\d+)/m.exec(block)?.[1];
    return core === undefined ? [] : [`${socket ?? 0}/${core}`];
  });
  return new Set(pairs).size;
}

/**
 * What decides which kernels run here, as text to compare: weights packed for one processor are not
 * another's.
 */
export function processor(): string {
  const { os, arch } = Deno.build;
  const cpuinfo = os === "linux" ? readText("/proc/cpuinfo") : "";
  const features = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? "";
  return [os, arch, ...features.split(" ").sort()].join(" ").trim();
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
