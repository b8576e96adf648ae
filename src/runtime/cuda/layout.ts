/**
 * The folder that CUDA is opened from: ONNX Runtime's library from npm, its CUDA provider from the
 * Python wheel of the same build, and NVIDIA's libraries. `deno task setup:cuda` makes it.
 *
 * ONNX Runtime looks for its providers beside the file that it was loaded from. npm's library is
 * copied here and not linked: the system's loader takes a link for the library that a process has
 * open already, whose folder has no providers.
 */
import { cacheDirectory } from "../../util/cache_directory.ts";

/** ONNX Runtime's library, as npm has it. */
export const RUNTIME_LIBRARY = "libonnxruntime.so.1";

export const CUDA_PROVIDER = "libonnxruntime_providers_cuda.so";
/** The CUDA provider, and what it and ONNX Runtime speak through. */
export const PROVIDER_LIBRARIES = ["libonnxruntime_providers_shared.so", CUDA_PROVIDER] as const;

/** NVIDIA's, in the order in which they are opened: the provider does not say where they are. */
export const NVIDIA_LIBRARIES = [
  "libcudart.so.13",
  "libnvJitLink.so.13",
  "libcublasLt.so.13",
  "libcublas.so.13",
  "libcurand.so.10",
] as const;

/** Written last: it says what the folder holds. */
export const ABOUT = "about.json";

/** What was set up. */
export interface CudaAbout {
  /** ONNX Runtime's version. */
  readonly version: string;
  /** The commit that both ONNX Runtime and the provider were built from. */
  readonly commit: string;
  /** Bytes of each file, by its name. */
  readonly files: Readonly<Record<string, number>>;
}

/** The build of ONNX Runtime that a folder must fit. */
export interface RuntimeBuild {
  readonly version: string;
  readonly commit: string;
}

/** Where CUDA's libraries for a version of ONNX Runtime are set up. */
export function cudaFolder(version: string): string {
  return `${cacheDirectory()}/cuda/${version}`;
}

/** What a whole folder holds beside licences. */
export function cudaFiles(): readonly string[] {
  return [RUNTIME_LIBRARY, ...PROVIDER_LIBRARIES, ...NVIDIA_LIBRARIES];
}

/** Why CUDA cannot be opened from a folder, as the end of a sentence; undefined where it is whole. */
export function lackOfLayout(folder: string, build: RuntimeBuild): string | undefined {
  const { version, commit } = build;
  if (sizeOf(folder) === undefined) {
    return `NVIDIA's libraries for ONNX Runtime ${version} are not set up: run deno task setup:cuda`;
  }
  const about = readAbout(folder);
  const again = "run deno task setup:cuda";
  if (about === undefined) return `${folder}/${ABOUT} does not say what was set up: ${again}`;
  if (about.version !== version || about.commit !== commit) {
    return `what was set up is for ONNX Runtime ${about.version} (${about.commit}), ` +
      `npm's is ${version} (${commit}): ${again}`;
  }
  const damaged = damagedFiles(folder, about);
  if (damaged.length === 0) return undefined;
  return `${damaged.join(", ")} in ${folder} is missing or damaged: ${again}`;
}

/** Files that are not there, or not of the size that they had. */
export function damagedFiles(folder: string, about: CudaAbout): readonly string[] {
  return cudaFiles().filter((name) => {
    const size = sizeOf(`${folder}/${name}`);
    return size === undefined || size !== about.files[name];
  });
}

/** What a folder says of itself; undefined where it says nothing that can be read. */
export function readAbout(folder: string): CudaAbout | undefined {
  try {
    const about = JSON.parse(Deno.readTextFileSync(`${folder}/${ABOUT}`));
    const whole = typeof about?.version === "string" && typeof about.commit === "string" &&
      typeof about.files === "object" && about.files !== null;
    return whole ? about : undefined;
  } catch {
    return undefined;
  }
}

function sizeOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
