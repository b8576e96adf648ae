/**
 * Sessions on ONNX Runtime: options, creation off the event loop, the declared inputs and outputs,
 * bindings and cancellation.
 */

import type { DType, Session, SessionOptions, Tensor, ValueInfo } from "../device.ts";
import { type NamedTensor, OrtBinding, RunControl } from "./binding.ts";
import type { Handle } from "./handle.ts";
import { LOG_FATAL, type Ort, pointerIn, pointerSlot } from "./ort.ts";
import { cString, cStrings, pathString, type Pointer, pointerArray } from "./ort_api.ts";
import type { Status } from "./ort_api.ts";
import { dtypeOfCode, HostTensor, OrtTensor } from "./tensor.ts";

const LEVELS = { none: 0, basic: 1, extended: 2, all: 99 } as const;

/**
 * Idle threads spin for 0.1 ms, longer than the gaps within a run, and then sleep. Spinning longer
 * would take the cores from the next session's run and from the HTTP server.
 */
const DEFAULT_CONFIG: Readonly<Record<string, string>> = {
  "session.intra_op.spin_duration_us": "100",
  "session.use_env_allocators": "1",
};

/** An `OrtSession`. Make it with `createSession`. */
export class OrtSession implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #ort: Ort;
  /** The native session. */
  readonly handle: Handle;
  readonly #control: RunControl;
  /** Whether bindings record their commands; how many there were. */
  readonly #captures: boolean;
  #captured = 0;
  #profiling: boolean;

  constructor(ort: Ort, handle: Handle, { profile, capture = false }: SessionOptions) {
    this.#ort = ort;
    this.handle = handle;
    this.#profiling = profile !== undefined;
    this.#captures = capture;
    this.inputs = readValues(ort, handle.pointer, "input");
    this.outputs = readValues(ort, handle.pointer, "output");
    this.#control = new RunControl(ort);
  }

  bind(
    inputs: Readonly<Record<string, Tensor>>,
    outputs: Readonly<Record<string, Tensor>>,
  ): OrtBinding {
    if (this.handle.released) throw new TypeError("Cannot bind: the session was released");
    const ins = fitAll("input", this.inputs, inputs);
    const outs = fitAll("output", this.outputs, outputs);
    const missing = this.inputs.find(({ name }) => inputs[name] === undefined);
    if (missing !== undefined) {
      throw new TypeError(`Cannot bind: input "${missing.name}" is missing`);
    }
    if (!this.#captures) return new OrtBinding(this.#ort, this.handle, this.#control, ins, outs);
    const own = new RunControl(this.#ort, { recording: ++this.#captured });
    return new OrtBinding(this.#ort, this.handle, own, ins, outs, () => own.release());
  }

  cancel(): void {
    this.#control.cancel();
  }

  endProfiling(): string | undefined {
    if (!this.#profiling) return undefined;
    this.#profiling = false;
    return this.#ort.text(
      "profile",
      (allocator, out) => this.#ort.api.SessionEndProfiling(this.handle.pointer, allocator, out),
    );
  }

  release(): void {
    this.handle.release();
    this.#control.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** What compiles and runs a session's nodes, before the CPU's kernels: a name, and its own options. */
export interface Provider {
  readonly name: string;
  readonly options: Readonly<Record<string, string>>;
}

type CreateOptions = SessionOptions & { readonly threads: number; readonly provider?: Provider };

/**
 * Compiles a model off the event loop. With a provider all weights are copied to its device, those
 * in `initializers` too, but for those that are `resident`.
 * @throws {RuntimeError} where ONNX Runtime refuses the model or an option.
 * @throws {TypeError} where an input or output has an element type lembas does not use.
 */
export async function createSession(
  ort: Ort,
  model: Uint8Array,
  options: CreateOptions,
): Promise<OrtSession> {
  const given = weightsOf(options.initializers);
  const shared = options.provider === undefined ? given : residentOf(options.resident);
  const weights = [...given, ...weightsOf(options.copies)];
  const handlesOf = (some: SharedWeights) => some.map(([, tensor]) => tensor.handle);
  const { api } = ort;
  const native = ort.handle(
    "session options",
    (out) => api.CreateSessionOptions(out),
    api.ReleaseSessionOptions,
    handlesOf(weights),
  );
  try {
    const make = async () => {
      configure(ort, native.pointer, options);
      replaceInitializers(ort, native.pointer, weights);
      shareInitializers(ort, native.pointer, shared);
      const pointer = await compile(ort, model, native.pointer);
      native.release();
      const free = ort.queue === undefined ? api.ReleaseSession : api.ReleaseSessionAsync;
      return describe(ort, ort.ownOnDevice(pointer, free, handlesOf(shared)), options);
    };
    const { queue } = ort;
    const { attention = "flash" } = options;
    return await ort.compiles.run(
      attention,
      () => queue === undefined ? make() : queue.run(make),
    );
  } finally {
    native.release();
  }
}

/** The tensor as this runtime made it. */
function ortTensorOf(tensor: Tensor, what: string): OrtTensor {
  if (!(tensor instanceof OrtTensor)) {
    throw new TypeError(`Cannot use ${what}: its tensor was made by another device`);
  }
  if (tensor.handle.released) throw new TypeError(`Cannot use ${what}: its tensor was released`);
  return tensor;
}

function hostTensorOf(given: Tensor, what: string): HostTensor {
  const tensor = ortTensorOf(given, what);
  if (tensor instanceof HostTensor) return tensor;
  throw new TypeError(`Cannot use ${what}: its tensor is not in host memory`);
}

function configure(ort: Ort, native: Pointer, options: CreateOptions): void {
  const { api } = ort;
  const check = (status: Status) => ort.check(status, "configure session");
  check(api.SetSessionLogSeverityLevel(native, LOG_FATAL));
  check(api.SetIntraOpNumThreads(native, options.threads));
  check(api.SetInterOpNumThreads(native, 1));
  check(api.SetSessionGraphOptimizationLevel(native, LEVELS[options.optimization ?? "all"]));
  // A pattern is remembered for every input shape: memory that grows with each new length.
  check(api.DisableMemPattern(native));
  if (options.profile !== undefined) {
    check(api.EnableProfiling(native, pathString(options.profile)));
  }
  if (options.save !== undefined) {
    const { folder, name } = options.save;
    check(api.SetOptimizedModelFilePath(native, pathString(`${folder}/${name}.onnx`)));
  }
  const config = { ...DEFAULT_CONFIG, ...fileConfig(options), ...options.config };
  for (const [key, value] of Object.entries(config)) {
    check(api.AddSessionConfigEntry(native, cString(key), cString(value)));
  }
  if (options.provider !== undefined) {
    ort.check(appendProvider(ort, native, options.provider), "start the provider");
  }
}

/** Has sessions made with these options use a provider. Starts its device the first time. */
export function appendProvider(ort: Ort, native: Pointer, provider: Provider): Status {
  const { name, options } = provider;
  if (name === "CUDA") {
    const made = cudaOptions(ort, options);
    if (!("handle" in made)) return made.status;
    const status = ort.api.AppendExecutionProvider_CUDA_V2(native, made.handle.pointer);
    made.handle.release();
    return status;
  }
  const keys = cStrings(Object.keys(options));
  const values = cStrings(Object.values(options));
  return ort.api.SessionOptionsAppendExecutionProvider(
    native,
    cString(name),
    keys.pointers,
    values.pointers,
    BigInt(keys.strings.length),
  );
}

/** CUDA's provider reads its own options: making them loads it. */
export function cudaOptions(
  ort: Ort,
  given: Provider["options"],
): { readonly handle: Handle } | { readonly status: Status } {
  const { api } = ort;
  const handle = ort.handle(
    "CUDA options",
    (out) => api.CreateCUDAProviderOptions(out),
    api.ReleaseCUDAProviderOptions,
  );
  const keys = cStrings(Object.keys(given));
  const values = cStrings(Object.values(given));
  const count = BigInt(keys.strings.length);
  const { pointers: names } = keys;
  const status = api.UpdateCUDAProviderOptions(handle.pointer, names, values.pointers, count);
  if (status === null) return { handle };
  handle.release();
  return { status };
}

/** Smaller weights stay in the saved model. */
const SAVED_BYTES = 1024;

function fileConfig({ folder, save }: SessionOptions): Readonly<Record<string, string>> {
  return {
    ...(folder === undefined
      ? {}
      : { "session.model_external_initializers_file_folder_path": folder }),
    ...(save === undefined ? {} : {
      "session.save_external_prepacked_constant_initializers": "1",
      "session.optimized_model_external_initializers_file_name": `${save.name}.bin`,
      "session.optimized_model_external_initializers_min_size_in_bytes": String(SAVED_BYTES),
    }),
  };
}

type Weights = readonly (readonly [string, HostTensor])[];
type SharedWeights = readonly (readonly [string, OrtTensor])[];

function residentOf(tensors: Readonly<Record<string, Tensor>> = {}): SharedWeights {
  return Object.entries(tensors).map(([name, tensor]) => [
    name,
    ortTensorOf(tensor, `initializer "${name}"`),
  ]);
}

function weightsOf(tensors: Readonly<Record<string, Tensor>> = {}): Weights {
  return Object.entries(tensors).map(([name, tensor]) => [
    name,
    hostTensorOf(tensor, `initializer "${name}"`),
  ]);
}

/** Stands for the bytes of external initializers, so that nothing is looked for in a file. */
function replaceInitializers(ort: Ort, native: Pointer, weights: Weights): void {
  if (weights.length === 0) return;
  const names = cStrings(weights.map(([name]) => name));
  const values = pointerArray(weights.map(([, tensor]) => tensor.handle.pointer));
  ort.check(
    ort.api.AddExternalInitializers(native, names.pointers, values, BigInt(weights.length)),
    `add ${names.strings.length} initializers`,
  );
}

/**
 * Makes the session work on the tensors themselves. With `replaceInitializers` alone it has copies;
 * those of the tensors given here it drops. Only these weights are shared when prepacked.
 */
function shareInitializers(ort: Ort, native: Pointer, weights: SharedWeights): void {
  for (const [name, tensor] of weights) {
    ort.check(
      ort.api.AddInitializer(native, cString(name), tensor.handle.pointer),
      `add initializer "${name}"`,
    );
  }
}

async function compile(
  ort: Ort,
  model: Uint8Array,
  options: Pointer,
): Promise<Pointer> {
  const { api, env } = ort;
  const out = pointerSlot();
  const bytes = model as Uint8Array<ArrayBuffer>;
  const size = BigInt(bytes.byteLength);
  const status = await api.CreateSessionAsync(env.pointer, bytes, size, options, out);
  ort.check(status, "create session");
  return pointerIn(out, "session");
}

function describe(ort: Ort, handle: Handle, options: SessionOptions): OrtSession {
  try {
    return new OrtSession(ort, handle, options);
  } catch (error) {
    handle.release();
    throw error;
  }
}

type Kind = "input" | "output";

function readValues(ort: Ort, session: Pointer, kind: Kind): readonly ValueInfo[] {
  const { api } = ort;
  const count = kind === "input" ? api.SessionGetInputCount : api.SessionGetOutputCount;
  const name = kind === "input" ? api.SessionGetInputName : api.SessionGetOutputName;
  const type = kind === "input" ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo;
  const length = ort.size(`number of ${kind}s`, (out) => count(session, out));
  return Array.from({ length }, (_, i) => {
    const index = BigInt(i);
    const label = ort.text("name", (allocator, out) => name(session, index, allocator, out));
    const info = ort.made("type", (out) => type(session, index, out));
    try {
      return { name: label, ...readType(ort, info, `${kind} "${label}"`) };
    } finally {
      api.ReleaseTypeInfo(info);
    }
  });
}

function readType(ort: Ort, info: Pointer, what: string): Omit<ValueInfo, "name"> {
  const { api } = ort;
  const tensor = pointerSlot();
  ort.check(api.CastTypeInfoToTensorInfo(info, tensor), `read type of ${what}`);
  const pointer = Deno.UnsafePointer.create(tensor[0] ?? 0n);
  if (pointer === null) throw new TypeError(`Cannot use model: ${what} is not a tensor`);
  const code = ort.size("element type", (out) => api.GetTensorElementType(pointer, out));
  const rank = ort.size("rank", (out) => api.GetDimensionsCount(pointer, out));
  const sizes = new BigInt64Array(new ArrayBuffer(8 * rank));
  const bytes = new Uint8Array(sizes.buffer);
  ort.check(api.GetDimensions(pointer, bytes, BigInt(rank)), `read shape of ${what}`);
  return { dtype: dtypeFor(code, what), shape: Array.from(sizes, Number) };
}

function dtypeFor(code: number, what: string): DType {
  const dtype = dtypeOfCode(code);
  if (dtype !== undefined) return dtype;
  throw new TypeError(`Cannot use model: ${what} has ONNX element type ${code}`);
}

/** The tensors given for a session's values, each checked against what the model declares. */
function fitAll(
  kind: Kind,
  values: readonly ValueInfo[],
  given: Readonly<Record<string, Tensor>>,
): readonly NamedTensor[] {
  return Object.entries(given).map(([name, tensor]) => {
    const value = values.find((value) => value.name === name);
    if (value === undefined) {
      const known = values.map(({ name }) => name).join(", ");
      throw new TypeError(`Cannot bind ${kind} "${name}": the session's ${kind}s are ${known}`);
    }
    const own = ortTensorOf(tensor, `${kind} "${name}"`);
    checkFit(kind, value, own);
    return { name, tensor: own };
  });
}

function checkFit(kind: Kind, { name, dtype, shape }: ValueInfo, tensor: OrtTensor): void {
  if (tensor.dtype !== dtype) {
    throw new TypeError(
      `Cannot bind ${kind} "${name}": the tensor is ${tensor.dtype}, the model wants ${dtype}`,
    );
  }
  // A model that leaves the rank open is reported with no dimensions, like a scalar.
  if (shape.length === 0) return;
  const fits = shape.length === tensor.shape.length &&
    shape.every((size, axis) => size === -1 || size === tensor.shape[axis]);
  if (fits) return;
  throw new TypeError(
    `Cannot bind ${kind} "${name}": the tensor's shape is [${tensor.shape}], ` +
      `the model wants [${shape}]`,
  );
}
