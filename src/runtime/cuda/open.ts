/**
 * Opens ONNX Runtime with its CUDA provider, or says in one sentence what is missing. The provider's
 * file names NVIDIA's libraries without their places, so these are opened first, in their order.
 */
import { Ort } from "../onnx/ort.ts";
import { cString, openLibrary } from "../onnx/ort_api.ts";
import { cudaOptions, type Provider } from "../onnx/session.ts";
import { ProviderDevice } from "../provider/device.ts";
import { DeviceFailures } from "../provider/failures.ts";
import { formatBytes } from "../../util/bytes.ts";
import type { Device } from "../device.ts";
import { CallQueue } from "../onnx/call_queue.ts";
import { lackOfDriver, readDriver } from "./driver.ts";
import {
  CUDA_PROVIDER,
  cudaFolder,
  lackOfLayout,
  NVIDIA_LIBRARIES,
  type RuntimeBuild,
} from "./layout.ts";

/** Where CUDA is, and which of its GPUs is meant. */
export interface CudaPlace {
  readonly folder?: string;
  readonly index?: number;
}

/**
 * One of NVIDIA's GPUs, through ONNX Runtime from CUDA's folder. NVIDIA's libraries stay open as long
 * as the process lives. Its native calls go one after the other: its context is the process's.
 *
 * @param build npm's ONNX Runtime, which the folder must fit
 * @throws {Deno.errors.NotSupported} saying in one sentence what CUDA lacks
 */
export function openCuda(
  build: RuntimeBuild,
  { folder = cudaFolder(build.version), index = 0 }: CudaPlace = {},
): Device {
  const { os, arch } = Deno.build;
  if (!cudaCanBe()) throw lack(`lembas runs it on Linux x64, and this is ${os} ${arch}`);
  const wrong = lackOfLayout(folder, build);
  if (wrong !== undefined) throw lack(wrong);
  using libraries = openNvidia(folder);
  const queue = new CallQueue();
  const failures = new DeviceFailures();
  const ort = new Ort(openLibrary(folder), queue, (error) => failures.explain(error));
  const options = { ["device_id"]: String(index) };
  const refusal = askProvider(ort, options) ?? registerProvider(ort, folder);
  if (refusal !== undefined) {
    ort.release();
    throw lack(lackOfDriver(readDriver()) ?? refusal);
  }
  libraries.move();
  const driver = readDriver();
  const gpu = driver.type === "found" ? driver.gpus[index] : undefined;
  return new ProviderDevice(ort, {
    ...{ name: "cuda", queue, failures },
    provider: { name: "CUDA", options },
    capturing: { ["enable_cuda_graph"]: "1" },
    memory: { name: "Cuda", index },
    adapter: gpu && `cuda:${index} ${gpu.name}, ${formatBytes(gpu.memory)}`,
    largestTensor: gpu?.memory ?? Infinity,
  });
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
function askProvider(ort: Ort, options: Provider["options"]): string | undefined {
  const made = cudaOptions(ort, options);
  if (!("handle" in made)) return ort.error(made.status, "start the provider")?.message;
  made.handle.release();
  return undefined;
}

/** ONNX Runtime copies to and from a device alone whose provider's library it knows by itself. */
function registerProvider(ort: Ort, folder: string): string | undefined {
  const path = cString(`${folder}/${CUDA_PROVIDER}`);
  const status = ort.api.RegisterExecutionProviderLibrary(ort.env.pointer, cString("CUDA"), path);
  return ort.error(status, "register the provider")?.message;
}

function lack(what: string): Error {
  return new Deno.errors.NotSupported(`Cannot use CUDA: ${what}`);
}
