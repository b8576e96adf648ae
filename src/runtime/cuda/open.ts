/**
 * Opens ONNX Runtime with its CUDA provider, or says in one sentence what is missing. The provider's
 * file names NVIDIA's libraries without their places, so these are opened first, in their order.
 */
import { Ort } from "../onnx/ort.ts";
import { cStrings, openLibrary } from "../onnx/ort_api.ts";
import { lackOfDriver, readDriver } from "./driver.ts";
import { cudaFolder, lackOfLayout, NVIDIA_LIBRARIES, type RuntimeBuild } from "./layout.ts";

/** Where CUDA is, and which of its GPUs is meant. */
export interface CudaPlace {
  readonly folder?: string;
  readonly index?: number;
}

/**
 * ONNX Runtime from CUDA's folder, after its provider has found a GPU. NVIDIA's libraries stay open
 * as long as the process lives.
 *
 * @param build npm's ONNX Runtime, which the folder must fit
 * @throws {Deno.errors.NotSupported} saying in one sentence what CUDA lacks
 */
export function openCuda(
  build: RuntimeBuild,
  { folder = cudaFolder(build.version), index = 0 }: CudaPlace = {},
): Ort {
  const { os, arch } = Deno.build;
  if (!cudaCanBe()) throw lack(`lembas runs it on Linux x64, and this is ${os} ${arch}`);
  const wrong = lackOfLayout(folder, build);
  if (wrong !== undefined) throw lack(wrong);
  using libraries = openNvidia(folder);
  const ort = new Ort(openLibrary(folder));
  const refusal = askProvider(ort, index);
  if (refusal !== undefined) {
    ort.release();
    throw lack(lackOfDriver(readDriver()) ?? refusal);
  }
  libraries.move();
  return ort;
}

/** Whether CUDA is set up for this platform at all. */
export function cudaCanBe(): boolean {
  return Deno.build.os === "linux" && Deno.build.arch === "x86_64";
}

function openNvidia(folder: string): DisposableStack {
  using opened = new DisposableStack();
  for (const name of NVIDIA_LIBRARIES) {
    const path = `${folder}/${name}`;
    try {
      opened.adopt(Deno.dlopen(path, {}), (library) => library.close());
    } catch (error) {
      const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
      throw lack(
        `${name} does not open (${reason}): run deno task setup:cuda --remove, then again`,
      );
    }
  }
  return opened.move();
}

/** Loads the provider by giving it options, which only it can read; why it refused. */
function askProvider(ort: Ort, index: number): string | undefined {
  const { api } = ort;
  const options = ort.handle(
    "CUDA options",
    (out) => api.CreateCUDAProviderOptions(out),
    api.ReleaseCUDAProviderOptions,
  );
  const [keys, values] = [cStrings(["device_id"]), cStrings([String(index)])];
  const { pointers: names } = keys;
  const status = api.UpdateCUDAProviderOptions(options.pointer, names, values.pointers, 1n);
  options.release();
  return ort.error(status, "start the provider")?.message;
}

function lack(what: string): Error {
  return new Deno.errors.NotSupported(`Cannot use CUDA: ${what}`);
}
