/**
 * NVIDIA's driver as its own library (CUDA driver API) describes it: what version of CUDA it can
 * run, and the GPUs that it has. It loads nothing else and makes no context on a GPU.
 */
import { readCString } from "../onnx/ort_api.ts";

/** The driver's library, which comes with the driver and with nothing else. */
export const DRIVER_LIBRARY = "libcuda.so.1";
/** The first driver for CUDA 13 (CUDA's release notes, "CUDA Driver"). */
export const NEEDED_DRIVER = 580;
const NEEDED_CUDA = 13;

const NAME_BYTES = 256;
const SYMBOLS = {
  cuInit: { parameters: ["u32"], result: "i32" },
  cuDriverGetVersion: { parameters: ["buffer"], result: "i32" },
  cuDeviceGetCount: { parameters: ["buffer"], result: "i32" },
  cuDeviceGet: { parameters: ["buffer", "i32"], result: "i32" },
  cuDeviceGetName: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  cuDeviceTotalMem_v2: { parameters: ["buffer", "i32"], result: "i32" },
  cuGetErrorString: { parameters: ["i32", "buffer"], result: "i32" },
} as const;
type Library = Deno.DynamicLibrary<typeof SYMBOLS>;

export interface Gpu {
  readonly name: string;
  /** Bytes of its memory. */
  readonly memory: number;
}

/** A driver, or why it cannot be used. */
export type Driver =
  | { readonly type: "missing" }
  | { readonly type: "failed"; readonly message: string }
  | {
    readonly type: "found";
    /** The newest CUDA that it runs, such as "13.0". */
    readonly cuda: string;
    readonly gpus: readonly Gpu[];
  };

/** Asks the driver. Milliseconds where there is none, up to a second where there is. */
export function readDriver(path: string = DRIVER_LIBRARY): Driver {
  let library: Library;
  try {
    library = Deno.dlopen(path, SYMBOLS);
  } catch {
    return { type: "missing" };
  }
  try {
    return ask(library);
  } catch (error) {
    return { type: "failed", message: error instanceof Error ? error.message : String(error) };
  } finally {
    library.close();
  }
}

/** Why a driver is not enough, as the end of a sentence; undefined where it is. */
export function lackOfDriver(driver: Driver): string | undefined {
  const install = `install NVIDIA's driver, version ${NEEDED_DRIVER} or newer`;
  switch (driver.type) {
    case "missing":
      return `${DRIVER_LIBRARY} is missing: ${install}`;
    case "failed":
      return `NVIDIA's driver does not start (${driver.message}): ${install}`;
    case "found":
      if (parseInt(driver.cuda) < NEEDED_CUDA) {
        return `NVIDIA's driver runs CUDA up to ${driver.cuda}, and CUDA ${NEEDED_CUDA} is ` +
          `needed: ${install}`;
      }
      return driver.gpus.length === 0 ? "NVIDIA's driver finds no GPU" : undefined;
  }
}

function ask(library: Library): Driver {
  const { symbols: cuda } = library;
  const check = (code: number) => {
    if (code !== 0) throw new Error(errorText(library, code));
  };
  const integer = (call: (out: Uint8Array<ArrayBuffer>) => number) => {
    const out = new Int32Array(1);
    check(call(new Uint8Array(out.buffer)));
    return out[0] ?? 0;
  };
  check(cuda.cuInit(0));
  const version = integer((out) => cuda.cuDriverGetVersion(out));
  const count = integer((out) => cuda.cuDeviceGetCount(out));
  const gpus = Array.from({ length: count }, (_, i) => {
    const device = integer((out) => cuda.cuDeviceGet(out, i));
    const name = new Uint8Array(NAME_BYTES);
    check(cuda.cuDeviceGetName(name, NAME_BYTES, device));
    const memory = new BigUint64Array(1);
    check(cuda.cuDeviceTotalMem_v2(new Uint8Array(memory.buffer), device));
    return { name: readCString(Deno.UnsafePointer.of(name)), memory: Number(memory[0]) };
  });
  return { type: "found", cuda: `${Math.floor(version / 1000)}.${version % 1000 / 10}`, gpus };
}

function errorText(library: Library, code: number): string {
  const out = new BigUint64Array(1);
  library.symbols.cuGetErrorString(code, new Uint8Array(out.buffer));
  return readCString(Deno.UnsafePointer.create(out[0] ?? 0n)) || `error ${code}`;
}
