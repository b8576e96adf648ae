/** The CPU as a `Device`: tensors in host memory, ONNX Runtime's CPU kernels, a thread for each core. */

import type {
  Copy,
  Device,
  DType,
  SessionOptions,
  Tensor,
  TypedArray,
  TypedArrayOf,
} from "./device.ts";
import { openPageReleaser, type PageReleaser } from "./memory.ts";
import type { Ort } from "./onnx/ort.ts";
import { createSession, type OrtSession } from "./onnx/session.ts";
import {
  bytesPerElement,
  checkCopy,
  checkRange,
  HostTensor,
  hostTensor,
  hostView,
} from "./onnx/tensor.ts";

/** Host memory and CPU kernels. Make it with `openDevice("cpu")`. */
export class CpuDevice implements Device {
  readonly adapter = undefined;
  readonly largestTensor = Infinity;
  /** Memory of the host that runs out ends the process at once. */
  readonly failed = new Promise<never>(() => {});
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

  // deno-lint-ignore require-await -- what it throws is to reject
  async allocate(dtype: DType, shape: readonly number[]): Promise<Tensor> {
    return this.tensor(dtype, shape);
  }

  // deno-lint-ignore require-await -- what it throws is to reject
  async copy(copies: readonly Copy[]): Promise<void> {
    this.#checkOpen("copy");
    copies.forEach(checkCopy);
    for (const { from, to } of copies) bytesOf(to).set(bytesOf(from));
  }

  async upload(to: Tensor, data: TypedArray): Promise<void> {
    using from = this.tensor(to.dtype, to.shape, data as never);
    await this.copy([{ from, to }]);
  }

  // deno-lint-ignore require-await -- what it throws is to reject
  async download(from: Tensor): Promise<TypedArray> {
    this.#checkOpen("download");
    return hostOnly(from).data.slice();
  }

  view(source: Tensor, offset: number, shape: readonly number[]): Tensor {
    this.#checkOpen("make a view");
    return hostView(this.#ort, hostOnly(source), offset, shape);
  }

  discard(tensor: Tensor, offset: number, count: number): void {
    this.#checkOpen("discard memory");
    const all = bytesOf(tensor);
    checkRange("discard", tensor, offset, count);
    const bytes = bytesPerElement(tensor.dtype);
    this.#pages.discard(all.subarray(offset * bytes, (offset + count) * bytes));
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
    this.#pages.keepSmall(bytesOf(tensor));
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

function bytesOf(tensor: Tensor): Uint8Array<ArrayBuffer> {
  const { data } = hostOnly(tensor);
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
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
