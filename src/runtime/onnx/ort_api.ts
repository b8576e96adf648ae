/**
 * The C API of ONNX Runtime as typed functions: finds the shared library that the npm package
 * ships, opens it, and wraps the function pointers that lembas uses. This is the one place where
 * FFI pointers get their types.
 *
 * The positions in the table are those of `struct OrtApi` in `onnxruntime_c_api.h`; the struct is
 * append-only, so a position never changes once published.
 */

import { createRequire } from "node:module";
import { dirname } from "node:path";
// Installing follows imports, so the package is named by one, though only its files are used.
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };

/** A native address that is never null. */
export type Pointer = Deno.PointerObject;

/** An `OrtStatus*`: null is success. */
export type Status = Deno.PointerValue;

/** Memory that native code reads or writes during a call. */
export type Buffer = Uint8Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>;

/** The `ORT_API_VERSION` whose table the positions below belong to. */
const API_VERSION = 23;

const P = "pointer";
const B = "buffer";
const SIZE = "usize";
const INT = "i32";

/** `name: [position in OrtApi, parameters, result]`. Status results are pointers. */
const TABLE = {
  GetErrorCode: [1, [P], INT],
  GetErrorMessage: [2, [P], P],
  CreateEnv: [3, [INT, B, B], P],
  CreateSessionOptions: [10, [B], P],
  SetOptimizedModelFilePath: [11, [P, B], P],
  EnableProfiling: [14, [P, B], P],
  DisableMemPattern: [17, [P], P],
  SetSessionLogSeverityLevel: [22, [P, INT], P],
  SetSessionGraphOptimizationLevel: [23, [P, INT], P],
  SetIntraOpNumThreads: [24, [P, INT], P],
  SetInterOpNumThreads: [25, [P, INT], P],
  SessionGetInputCount: [30, [P, B], P],
  SessionGetOutputCount: [31, [P, B], P],
  SessionGetInputTypeInfo: [33, [P, SIZE, B], P],
  SessionGetOutputTypeInfo: [34, [P, SIZE, B], P],
  SessionGetInputName: [36, [P, SIZE, P, B], P],
  SessionGetOutputName: [37, [P, SIZE, P, B], P],
  CreateRunOptions: [39, [B], P],
  RunOptionsSetRunLogSeverityLevel: [41, [P, INT], P],
  RunOptionsSetTerminate: [46, [P], P],
  CreateTensorAsOrtValue: [48, [P, B, SIZE, INT, B], P],
  CreateTensorWithDataAsOrtValue: [49, [P, B, SIZE, B, SIZE, INT, B], P],
  GetTensorMutableData: [51, [P, B], P],
  CastTypeInfoToTensorInfo: [55, [P, B], P],
  GetTensorElementType: [60, [P, B], P],
  GetDimensionsCount: [61, [P, B], P],
  GetDimensions: [62, [P, B, SIZE], P],
  CreateMemoryInfo: [68, [B, INT, INT, INT, B], P],
  CreateCpuMemoryInfo: [69, [INT, INT, B], P],
  AllocatorFree: [76, [P, P], P],
  GetAllocatorWithDefaultOptions: [78, [B], P],
  ReleaseEnv: [92, [P], "void"],
  ReleaseStatus: [93, [P], "void"],
  ReleaseMemoryInfo: [94, [P], "void"],
  ReleaseSession: [95, [P], "void"],
  ReleaseValue: [96, [P], "void"],
  ReleaseRunOptions: [97, [P], "void"],
  ReleaseTypeInfo: [98, [P], "void"],
  ReleaseSessionOptions: [100, [P], "void"],
  SessionEndProfiling: [110, [P, P, B], P],
  GetAvailableProviders: [125, [B, B], P],
  ReleaseAvailableProviders: [126, [P, INT], P],
  AddSessionConfigEntry: [130, [P, B, B], P],
  CreateAllocator: [131, [P, P, B], P],
  ReleaseAllocator: [132, [P], "void"],
  CreateAndRegisterAllocator: [144, [P, P, P], P],
  AddInitializer: [150, [P, B, P], P],
  CreateArenaCfg: [156, [SIZE, INT, INT, INT, B], P],
  ReleaseArenaCfg: [157, [P], "void"],
  AddRunConfigEntry: [165, [P, B, B], P],
  AppendExecutionProvider_CUDA_V2: [204, [P, P], P],
  CreateCUDAProviderOptions: [205, [B], P],
  UpdateCUDAProviderOptions: [206, [P, B, B, SIZE], P],
  ReleaseCUDAProviderOptions: [208, [P], "void"],
  AddExternalInitializers: [210, [P, B, B, SIZE], P],
  SessionOptionsAppendExecutionProvider: [216, [P, B, B, B, SIZE], P],
  GetBuildInfoString: [254, [], P],
  RegisterExecutionProviderLibrary: [301, [P, B, B], P],
} as const;

/** `Run`, blocking and off the event loop, and what is only called off it. */
const RUN = [9, [P, P, B, B, SIZE, B, SIZE, B], P] as const;
const CREATE_SESSION = [8, [P, B, SIZE, P, B], P] as const;
const COPY_TENSORS = [386, [P, B, B, P, SIZE], P] as const;
/** `CreateTensorWithDataAsOrtValue` over memory that is not JavaScript's. */
const TENSOR_AT = [49, [P, P, SIZE, B, SIZE, INT, B], P] as const;

type Table = typeof TABLE;
type Call<Params extends readonly Deno.NativeType[], Result extends Deno.NativeResultType> =
  Deno.UnsafeFnPointer<{ parameters: Params; result: Result }>["call"];
type AsyncCall<
  Params extends readonly Deno.NativeType[],
  Result extends Deno.NativeResultType = "pointer",
> = Deno.UnsafeFnPointer<{ parameters: Params; result: Result; nonblocking: true }>["call"];

/** The functions of `OrtApi` that lembas calls, by their C names. */
export type OrtApi =
  & { readonly [Name in keyof Table]: Call<Table[Name][1], Table[Name][2]> }
  & {
    readonly Run: Call<typeof RUN[1], "pointer">;
    readonly RunAsync: AsyncCall<typeof RUN[1]>;
    readonly CreateSessionAsync: AsyncCall<typeof CREATE_SESSION[1]>;
    readonly CopyTensorsAsync: AsyncCall<typeof COPY_TENSORS[1]>;
    readonly ReleaseSessionAsync: AsyncCall<Table["ReleaseSession"][1], "void">;
    readonly CreateTensorAt: Call<typeof TENSOR_AT[1], "pointer">;
  };

/** An opened library. `close` unloads it: only after everything made with it was released. */
export interface OrtLibrary {
  readonly api: OrtApi;
  /** The address of `Run`, for a thread that calls it itself. */
  readonly runAddress: bigint;
  /** ONNX Runtime's version, such as "1.30.0". */
  readonly version: string;
  /** The commit that it was built from, such as "f2c39fe2f"; "" where it does not say. */
  readonly commit: string;
  /** The folder of the shared library, where execution provider libraries are looked for. */
  readonly folder: string;
  close(): void;
  /**
   * Keeps the library loaded until the process ends, for providers whose threads outlive what was
   * made with them: Deno unloads it when it exits, with threads running in it, at the latest.
   */
  keep(): void;
}

/**
 * Opens ONNX Runtime's shared library, by default from `npm:onnxruntime-node`.
 * @throws {Deno.errors.NotSupported} where the package has no library for this platform.
 */
export function openLibrary(folder: string = libraryFolder()): OrtLibrary {
  const path = `${folder}/${libraryFile(folder)}`;
  const library = Deno.dlopen(path, {
    OrtGetApiBase: { parameters: [], result: "pointer" },
  });
  const base = library.symbols.OrtGetApiBase();
  if (base === null) throw new Error(`internal: OrtGetApiBase of ${path} returned null`);
  const getApi = wrap(functionAt(base, 0), { parameters: ["u32"], result: P });
  const getVersion = wrap(functionAt(base, 1), { parameters: [], result: P });
  const version = readCString(getVersion() as Deno.PointerValue);
  const table = getApi(API_VERSION) as Deno.PointerValue;
  if (table === null) {
    library.close();
    throw new Deno.errors.NotSupported(
      `Cannot use ONNX Runtime ${version}: its C API is older than version ${API_VERSION}`,
    );
  }
  const runAddress = Deno.UnsafePointer.value(functionAt(table, RUN[0]));
  const api = wrapTable(table);
  const commit = commitOf(readCString(api.GetBuildInfoString() as Deno.PointerValue));
  const [close, keep] = [() => library.close(), () => keepLoaded(path)];
  return { api, runAddress, version, commit, folder, close, keep };
}

/** The commit in what ONNX Runtime says of its build; "" where it names none. */
export function commitOf(build: string): string {
  return /git-commit-id=([0-9a-f]+)/.exec(build)?.[1] ?? "";
}

const C_LIBRARIES: Readonly<Partial<Record<typeof Deno.build.os, string>>> = {
  linux: "libc.so.6",
  darwin: "libSystem.dylib",
};
const RTLD_NOW = 2;

/** Takes a hold on a library that nothing gives up. */
function keepLoaded(path: string): void {
  const name = C_LIBRARIES[Deno.build.os];
  if (name === undefined) return;
  const library = Deno.dlopen(name, {
    dlopen: { parameters: [B, INT], result: P, optional: true },
  });
  library.symbols.dlopen?.(cString(path), RTLD_NOW);
  library.close();
}

/** Reads a NUL-terminated UTF-8 string; "" for null. */
export function readCString(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);
}

/** UTF-8 bytes with the final NUL. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text + "\0");
}

/** A path as `ORTCHAR_T*` has it: UTF-16 on Windows, UTF-8 elsewhere, NUL-terminated. */
export function pathString(path: string): Uint8Array<ArrayBuffer> {
  if (Deno.build.os !== "windows") return cString(path);
  const units = Uint16Array.from([...path, "\0"].join(""), (unit) => unit.charCodeAt(0));
  return new Uint8Array(units.buffer);
}

/** Pointers to C strings, with the strings themselves so that the caller can hold them. */
export interface CStrings {
  readonly pointers: BigUint64Array<ArrayBuffer>;
  readonly strings: readonly Uint8Array<ArrayBuffer>[];
}

/** An array of `const char*`; valid while the returned object is held. */
export function cStrings(texts: readonly string[]): CStrings {
  const strings = texts.map(cString);
  return { pointers: pointerArray(strings.map((bytes) => Deno.UnsafePointer.of(bytes))), strings };
}

/** An array of native addresses, off the JavaScript heap. */
export function pointerArray(
  pointers: readonly Deno.PointerValue[],
): BigUint64Array<ArrayBuffer> {
  const array = new BigUint64Array(new ArrayBuffer(8 * pointers.length));
  pointers.forEach((pointer, i) => array[i] = Deno.UnsafePointer.value(pointer));
  return array;
}

function libraryFolder(): string {
  const root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const os = { linux: "linux", darwin: "darwin", windows: "win32" }[Deno.build.os as string];
  const arch = { x86_64: "x64", aarch64: "arm64" }[Deno.build.arch as string];
  if (os === undefined || arch === undefined || (os === "darwin" && arch === "x64")) {
    throw new Deno.errors.NotSupported(
      `Cannot load ONNX Runtime: ${onnxruntime.name} ${onnxruntime.version} has no library for ` +
        `${Deno.build.os} ${Deno.build.arch}; it has linux x64 and arm64, darwin arm64, win32`,
    );
  }
  return `${root}/bin/napi-v6/${os}/${arch}`;
}

function libraryFile(folder: string): string {
  if (Deno.build.os === "windows") return "onnxruntime.dll";
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
  const found = names.find((name) => /^libonnxruntime\.(so|\d[\d.]*\.dylib)/.test(name));
  if (found === undefined) {
    throw new Deno.errors.NotFound(`Cannot load ONNX Runtime: ${folder} holds ${names.join(", ")}`);
  }
  return found;
}

/** The `index`-th function pointer of a struct of function pointers. */
function functionAt(table: Pointer, index: number): Pointer {
  const pointer = new Deno.UnsafePointerView(table).getPointer(8 * index);
  if (pointer === null) throw new Error(`internal: function ${index} of the C API is null`);
  return pointer;
}

type AnyCall = (...args: unknown[]) => unknown;

/** A native function as JavaScript calls it; `OrtApi` and the casts below give it its type. */
function wrap(pointer: Pointer, definition: Deno.ForeignFunction): AnyCall {
  const typed = pointer as Deno.PointerObject<Omit<Deno.ForeignFunction, "nonblocking">>;
  const fn = new Deno.UnsafeFnPointer(typed, definition);
  return fn.call.bind(fn) as AnyCall;
}

function wrapTable(table: Pointer): OrtApi {
  const blocking = Object.entries({ ...TABLE, Run: RUN, CreateTensorAt: TENSOR_AT }).map((
    [name, [index, parameters, result]],
  ) => [name, wrap(functionAt(table, index), { parameters, result })] as const);
  const nonblocking = Object.entries({
    RunAsync: RUN,
    CreateSessionAsync: CREATE_SESSION,
    CopyTensorsAsync: COPY_TENSORS,
    ReleaseSessionAsync: TABLE.ReleaseSession,
  }).map(([name, [index, parameters, result]]) =>
    [
      name,
      wrap(functionAt(table, index), { parameters, result, nonblocking: true }),
    ] as const
  );
  return Object.fromEntries([...blocking, ...nonblocking]) as unknown as OrtApi;
}
