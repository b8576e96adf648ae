/** A cache directory with CUDA set up over the idle libraries of `idle_runtime.ts`, as processes find it. */
import { cudaCanBe } from "../../../src/runtime/cuda/open.ts";
import {
  ABOUT,
  CUDA_PROVIDER,
  cudaFiles,
  cudaFolder,
  lackOfLayout,
  NVIDIA_LIBRARIES,
  PROVIDER_LIBRARIES,
  RUNTIME_LIBRARY,
} from "../../../src/runtime/cuda/layout.ts";
import { openLibrary } from "../../../src/runtime/onnx/ort_api.ts";
import { folderOnPath, type Needing, needing } from "../../programs/needing.ts";
import { writeIdleRuntime } from "./idle_runtime.ts";

/** The head of a test on the idle GPU. */
export function onIdleGpu(name: string): Needing {
  return needing(name, missing(), "LEMBAS_TEST_CUDA");
}

/** Disposing removes the directory. */
export class IdleGpu implements AsyncDisposable {
  private constructor(readonly home: string) {}

  /** What a process finds it by. */
  get env(): Readonly<Record<string, string>> {
    return { LEMBAS_HOME: this.home, LD_LIBRARY_PATH: this.home };
  }

  static async make(): Promise<IdleGpu> {
    const { version, commit, close } = openLibrary();
    close();
    const gpu = new IdleGpu(await Deno.makeTempDir());
    const folder = `${gpu.home}/cuda/${version}`;
    await Deno.mkdir(folder, { recursive: true });
    const from = cudaFolder(version);
    for (const name of [RUNTIME_LIBRARY, ...PROVIDER_LIBRARIES]) {
      await Deno.copyFile(`${from}/${name}`, `${folder}/${name}`);
    }
    await writeIdleRuntime(folder, `${from}/${CUDA_PROVIDER}`, NVIDIA_LIBRARIES);
    await writeIdleRuntime(gpu.home, `${from}/${CUDA_PROVIDER}`, ["libcuda.so.1"]);
    const files = cudaFiles().map((name) => [name, Deno.statSync(`${folder}/${name}`).size]);
    const about = { version, commit, files: Object.fromEntries(files) };
    await Deno.writeTextFile(`${folder}/${ABOUT}`, JSON.stringify(about));
    return gpu;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.home, { recursive: true });
  }
}

function missing(): string | undefined {
  if (!cudaCanBe()) return "CUDA is for Linux x64";
  if (folderOnPath("cc", "nm") === undefined) return "no C compiler";
  const { version, commit, close } = openLibrary();
  close();
  const lack = lackOfLayout(cudaFolder(version), { version, commit });
  return lack === undefined ? undefined : "deno task setup:cuda was not run";
}
