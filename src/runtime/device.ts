/**
 * What the rest of lembas knows of a device: typed tensors, sessions, and bindings that run a
 * session again and again on the same tensors. It knows nothing of ONNX Runtime's C API (that is
 * `ort.ts`), of models, or of graphs beyond the serialised bytes it is handed.
 */

/** Element types that cross the boundary. `float16` data is a `Uint16Array` of raw bits. */
export type DType = "float32" | "float16" | "int64" | "int32" | "int8" | "uint8" | "bool";

/** The JavaScript view of each element type's memory. */
export type TypedArrayOf<T extends DType> = T extends "float32" ? Float32Array
  : T extends "float16" ? Uint16Array
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
  /** Releases the native handle; deferred by the runtime while a run in flight uses it. Idempotent. */
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
   * Weights that the model marks as external data, by initializer name: the values of its
   * initializers with `data_location` EXTERNAL, whose `location` may be any non-empty text. The
   * session works on the tensors' own memory and keeps them alive; several sessions may share them;
   * a kernel that prepacks a weight holds its packed form besides, one for all sessions with the
   * same `prepacked`.
   */
  readonly initializers?: Readonly<Record<string, Tensor>>;
  /**
   * More weights like `initializers`, of which the session takes a copy: it drops what it prepacks,
   * and the tensors may be released once it is made.
   */
  readonly copies?: Readonly<Record<string, Tensor>>;
  /** Shares prepacked weights between sessions created with the same container. */
  readonly prepacked?: PrepackedWeights;
  /** Writes ONNX Runtime's profile (Chrome trace JSON) to files with this prefix. */
  readonly profile?: string;
  /** Raw session configuration entries (`session.…`), over the device's own defaults. */
  readonly config?: Readonly<Record<string, string>>;
  /**
   * How attention is computed: "flash" in blocks (the default; long prompts), "direct" the whole row
   * of scores at once (a twentieth faster for decode steps).
   */
  readonly attention?: "flash" | "direct";
  /** Default "all". */
  readonly optimization?: "none" | "basic" | "extended" | "all";
}

/** An opaque container that sessions share; made by `Device.prepackedWeights()`. */
export interface PrepackedWeights extends Disposable {
  release(): void;
}

/**
 * A session's inputs and outputs fixed to tensors, ready to run many times without any allocation
 * or name look-up. An output tensor may be the same memory as an input (in-place KV cache).
 */
export interface Binding extends Disposable {
  /** Runs off the event loop. Rejects with `RuntimeError` on failure, `AbortError` after `cancel`. */
  run(): Promise<void>;
  /** Runs on the calling thread: for graphs of microseconds only. */
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
  /** Terminates runs in flight (for shutdown: a step stops half written). */
  cancel(): void;
  /** Ends profiling and returns the profile's path, where `profile` was set. */
  endProfiling(): string | undefined;
  release(): void;
}

export interface Device extends Disposable {
  readonly name: "cpu" | "webgpu" | "cuda";
  /**
   * A tensor over `data` (shared, not copied) or over new zeroed memory.
   * @throws {RangeError} where the element counts differ.
   */
  tensor<T extends DType>(dtype: T, shape: readonly number[], data?: TypedArrayOf<T>): Tensor;
  /** A tensor over a part of another one's memory, from `offset` elements on. */
  view(source: Tensor, offset: number, shape: readonly number[]): Tensor;
  /**
   * Gives the memory of `count` elements from `offset` on back to the system, as whole pages: what
   * they held is lost (on Linux they read as zeros). Does nothing where the system cannot.
   * @throws {RangeError} where the elements do not lie within the tensor.
   */
  discard(tensor: Tensor, offset: number, count: number): void;
  /**
   * Gives the system back what the allocator keeps of memory that was freed: after a session was
   * compiled or released. Off the event loop.
   */
  trim(): Promise<void>;
  /** Native objects that were made and not given back yet: what tests of leaks count. */
  readonly liveObjects: number;
  /**
   * Says that a tensor's memory is reserved for what may come and touched here and there: where the
   * system would bring a huge page for the first byte of it, it brings a small one.
   */
  touchSparsely(tensor: Tensor): void;
  /** Compiles a serialised ONNX model. Off the event loop where the runtime allows. */
  session(model: Uint8Array, options?: SessionOptions): Promise<Session>;
  prepackedWeights(): PrepackedWeights;
  release(): void;
}

/** An error that ONNX Runtime reported, with its code's name. */
export class RuntimeError extends Error {
  override readonly name = "RuntimeError";
  constructor(message: string, readonly code: string) {
    super(message);
  }
}
