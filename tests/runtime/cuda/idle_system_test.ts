/**
 * CUDA's device over libraries that find a GPU and compute nothing: the provider opens, and memory is
 * reserved, written, copied, viewed, read and freed. Where `deno task setup:cuda` was run.
 */
import { assertEquals } from "@std/assert";
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
import { folderOnPath, needing } from "../../programs/needing.ts";
import { writeIdleRuntime } from "./idle_runtime.ts";

function missing(): string | undefined {
  if (!cudaCanBe()) return "CUDA is for Linux x64";
  if (folderOnPath("cc", "nm") === undefined) return "no C compiler";
  const { version, commit, close } = openLibrary();
  close();
  const lack = lackOfLayout(cudaFolder(version), { version, commit });
  return lack === undefined ? undefined : "deno task setup:cuda was not run";
}

Deno.test(
  needing("cuda's device moves memory over an idle GPU", missing(), "LEMBAS_TEST_CUDA"),
  async () => {
    const { version, commit, close } = openLibrary();
    close();
    const home = await Deno.makeTempDir();
    try {
      const folder = `${home}/cuda/${version}`;
      await Deno.mkdir(folder, { recursive: true });
      const from = cudaFolder(version);
      for (const name of [RUNTIME_LIBRARY, ...PROVIDER_LIBRARIES]) {
        await Deno.copyFile(`${from}/${name}`, `${folder}/${name}`);
      }
      await writeIdleRuntime(folder, `${from}/${CUDA_PROVIDER}`, NVIDIA_LIBRARIES);
      await writeIdleRuntime(home, `${from}/${CUDA_PROVIDER}`, ["libcuda.so.1"]);
      const files = cudaFiles().map((name) => [name, Deno.statSync(`${folder}/${name}`).size]);
      const about = { version, commit, files: Object.fromEntries(files) };
      await Deno.writeTextFile(`${folder}/${ABOUT}`, JSON.stringify(about));
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", new URL("./idle_worker.ts", import.meta.url).pathname],
        env: { LEMBAS_HOME: home, LD_LIBRARY_PATH: home },
      }).output();
      assertEquals(new TextDecoder().decode(stderr), "");
      assertEquals(JSON.parse(new TextDecoder().decode(stdout)), {
        name: "cuda",
        adapter: "cuda:0 Idle, 16 GiB",
        copied: true,
        viewed: [0, 1, 2, 3, 4, 5, 6, 7],
        left: 0,
      });
    } finally {
      await Deno.remove(home, { recursive: true });
    }
  },
);
