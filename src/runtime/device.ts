/**
 * The device as the rest of lembas sees it: typed tensors, sessions, and bindings that run a
 * session again and again on the same tensors. `onnx/` implements it.
 */

import type { DeviceFailedError } from "../util/errors.ts";

/** Element types of tensors. The data of `float16` and `bfloat16` is a `Uint16Array` of raw bits. */
export type DType =
  | "float32"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int8"
  | "uint8"
  | "bool";

/** The JavaScript view of each element type's memory. */
export type TypedArrayOf<T extends DType> = T extends "float32" ? Float32Array
  : T extends "float16" | "bfloat16" ? Uint16Array
  : T extends "int64" ? BigInt64Array
  : T extends "int32" ? Int32Array
  : T extends "int8" ? Int8Array
  : Uint8Array;

export type TypedArray = TypedArrayOf<DType>;

/**
 * A dense row-major tensor on a device. `data` is the host memory itself for a host tensor (writes
 * are seen by the next run, no copy anywhere) and undefined for a tensor in device memory.
 */
export interface Tensor extends Disposable {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Host memory; undefined where the tensor lives in device memory. */
  readonly data: TypedArray | undefined;
  /**
   * Releases the native handle; deferred by the runtime while a run in flight uses it. Idempotent.
   */
  release(): void;
}

/** A model input or output: `shape` has -1 for a dynamic dimension. */
export interface ValueInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

export interface SessionOptions {
  /** Intra-op threads, the calling thread included. Default: the number of physical cores. */
  readonly threads?: number;
  /**
   * Weights by initializer name: the values of the model's initializers with `data_location`
   * EXTERNAL (whose `location` may be any non-empty text). The session works on the tensors' own
   * memory and keeps them alive; several sessions may share them. A kernel that packs a weight holds
   * the packed form besides.
   */
  readonly initializers?: Readonly<Record<string, Tensor>>;
  /**
   * More weights like `initializers`, which the session copies: the tensors may be released once it
   * is made, and it drops the copy of a weight that it prepacks.
   */
  readonly copies?: Readonly<Record<string, Tensor>>;
  /** The folder that `location`s in the model's `external_data` are relative to; files are mapped. */
  readonly folder?: string;
  /**
   * Writes the model as it was compiled to `folder/name.onnx`, and its weights, each with the form
   * that its kernel packed, to `folder/name.bin`.
   */
  readonly save?: { readonly folder: string; readonly name: string };
  /** Writes ONNX Runtime's profile (Chrome trace JSON) to files with this prefix. */
  readonly profile?: string;
  /** Raw session configuration entries (`session.…`), over the device's own defaults. */
  readonly config?: Readonly<Record<string, string>>;
  /**
   * How attention is computed: "flash" in blocks (the default, whose scratch memory does not grow with
   * the prompt), "direct" with the whole row of scores at once (a quarter faster, in prompts of up
   * to 1,000 tokens and in decode steps).
   */
  readonly attention?: "flash" | "direct";
  /**
   * Some of `initializers` in the device's own memory already: sessions share these instead of having
   * copies.
   */
  readonly resident?: Readonly<Record<string, Tensor>>;
  /**
   * Of a graphics device: each binding's first run records its commands, which later ones repeat at
   * less cost to the host. The first one computes more than once, so what it writes in place must come
   * out the same; tensors must be in the device's own memory, and every node's kernel there.
   */
  readonly capture?: boolean;
  /** Default "all". */
  readonly optimization?: "none" | "basic" | "extended" | "all";
}

/**
 * A session's inputs and outputs fixed to tensors, ready to run many times without any allocation
 * or name look-up. An output tensor may be the same memory as an input (in-place KV cache).
 */
export interface Binding extends Disposable {
  /**
   * Runs off the event loop. Rejects with `RuntimeError` on failure, `AbortError` after `cancel`.
   */
  run(): Promise<void>;
  /** Runs on the calling thread; only for graphs that take microseconds. */
  runSync(): void;
  release(): void;
}

export interface Session extends Disposable {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /**
   * Fixes tensors to names. Every input is required; outputs may be a subset.
   * @throws {TypeError} naming the input whose name, dtype or shape does not fit.
   */
  bind(
    inputs: Readonly<Record<string, Tensor>>,
    outputs: Readonly<Record<string, Tensor>>,
  ): Binding;
  /** Terminates runs in flight. Only for shutdown: a step stops half written. */
  cancel(): void;
  /** Ends profiling and returns the profile's path, where `profile` was set. */
  endProfiling(): string | undefined;
  release(): void;
}

/** A tensor whose whole contents become another one's, of the same type and number of elements. */
export interface Copy {
  readonly from: Tensor;
  readonly to: Tensor;
}

export interface Device extends Disposable {
  readonly name: "cpu" | "webgpu" | "cuda";
  /**
   * A tensor in host memory, over `data` (shared, not copied) or over new zeroed memory. Every
   * device's sessions take such; one with memory of its own moves them there and back at each run.
   * @throws {RangeError} where the element counts differ.
   */
  tensor<T extends DType>(dtype: T, shape: readonly number[], data?: TypedArrayOf<T>): Tensor;
  /**
   * A tensor in the device's own memory, which is host memory on the CPU. It may hold anything:
   * what a former tensor left.
   * @throws {RangeError} for more than `largestTensor`
   * @throws {DeviceFailedError} where the device has no such memory left
   */
  allocate(dtype: DType, shape: readonly number[]): Promise<Tensor>;
  /**
   * Copies between tensors of this device, in host memory or its own, in one go and in any order.
   * @throws {TypeError} where the types differ
   * @throws {RangeError} where the element counts differ
   */
  copy(copies: readonly Copy[]): Promise<void>;
  /** Writes a whole tensor. @throws as `copy` */
  upload(to: Tensor, data: TypedArray): Promise<void>;
  /** A copy of what a tensor holds. */
  download(from: Tensor): Promise<TypedArray>;
  /**
   * A tensor over a part of another one's memory, from `offset` elements on.
   * @throws {RangeError} where device memory, which has no addresses, is viewed from another offset
   * than 0, or to an end within what its kernels write at a time
   */
  view(source: Tensor, offset: number, shape: readonly number[]): Tensor;
  /**
   * Gives the memory of `count` elements from `offset` on back to the system, as whole pages: what
   * they held is lost (on Linux they read as zeros). Does nothing where the system cannot.
   * @throws {RangeError} where the elements do not lie within the tensor.
   */
  discard(tensor: Tensor, offset: number, count: number): void;
  /**
   * Gives freed memory that the allocator still holds back to the system: for after a session was
   * compiled or released. Off the event loop.
   */
  trim(): Promise<void>;
  /** Native objects that exist; tests count them to find leaks. */
  readonly liveObjects: number;
  /**
   * Keeps the system from backing a tensor's memory with huge pages: for memory that is reserved at
   * full size and touched here and there.
   */
  touchSparsely(tensor: Tensor): void;
  /** The adapter in a few words, where there is one and the system tells of it. */
  readonly adapter: string | undefined;
  /** Bytes of the largest tensor in the device's own memory. */
  readonly largestTensor: number;
  /** Resolves when the device can no longer be used. */
  readonly failed: Promise<DeviceFailedError>;
  /** ONNX Runtime's version, such as "1.30.0". */
  readonly runtimeVersion: string;
  /** Compiles a serialised ONNX model. Off the event loop where the runtime allows. */
  session(model: Uint8Array, options?: SessionOptions): Promise<Session>;
  release(): void;
}

/** An error that ONNX Runtime reported, with its code's name. */
export class RuntimeError extends Error {
  override readonly name = "RuntimeError";
  constructor(message: string, readonly code: string) {
    super(message);
  }
}
