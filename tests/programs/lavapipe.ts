// deno-lint-ignore-file camelcase -- the keys of a Vulkan driver's manifest
/**
 * Another graphics device for tests, which computes in float16: Mesa's lavapipe, Vulkan compiled for the
 * CPU. It comes with Debian's mesa-vulkan-drivers, installed or unpacked (`dpkg -x`) with what it
 * needs into a folder that `LEMBAS_TEST_LAVAPIPE` names. Trap: Mesa 22 says that it lacks two features
 * of images which WebGPU insists on and nothing here uses; `dynamic_indexing.c` says that they are there.
 */
import { isFile, type Needing, needing } from "./needing.ts";
import { SoftwareGpu } from "./software_gpu.ts";

const VARIABLE = "LEMBAS_TEST_LAVAPIPE";
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
const LOADER = "libvulkan.so.1";
const DRIVER = "libvulkan_lvp.so";
const COMPILER = "/usr/bin/cc";
const SOURCE = new URL("./dynamic_indexing.c", import.meta.url).pathname;

/** The head of a test that computes in float16. */
export function inFloat16(name: string): Needing {
  return needing(name, missing(), VARIABLE);
}

/** @throws {Deno.errors.NotFound} where there is none */
export async function openLavapipe(): Promise<SoftwareGpu> {
  const lack = missing();
  if (lack !== undefined) throw new Deno.errors.NotFound(`Cannot test float16: ${lack}`);
  const libraries = `${root()}/${LIBRARIES}`;
  const folder = await Deno.makeTempDir({ prefix: "lembas-lavapipe-" });
  const gpu = new SoftwareGpu(folder, {
    LD_LIBRARY_PATH: `${folder}:${libraries}`,
    LEMBAS_VULKAN_LOADER: `${libraries}/${LOADER}`,
    VK_ICD_FILENAMES: `${folder}/lavapipe.json`,
    XDG_RUNTIME_DIR: folder,
  });
  try {
    const icd = { library_path: `${libraries}/${DRIVER}`, api_version: "1.1.0" };
    const manifest = { file_format_version: "1.0.0", ICD: icd };
    await Deno.writeTextFile(`${folder}/lavapipe.json`, JSON.stringify(manifest));
    // once closed it would leave the loader behind, which has its name
    const args = ["-shared", "-fPIC", "-O1", `-Wl,-soname,${LOADER}`, "-Wl,-z,nodelete"];
    const { success, stderr } = await new Deno.Command(COMPILER, {
      args: [...args, "-o", `${folder}/${LOADER}`, SOURCE, "-ldl"],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return gpu;
  } catch (error) {
    await gpu[Symbol.asyncDispose]();
    throw error;
  }
}

function missing(): string | undefined {
  for (const name of [LOADER, DRIVER]) {
    if (!isFile(`${root()}/${LIBRARIES}/${name}`)) {
      return `Mesa's lavapipe is not there (${name}; ${VARIABLE} names a folder with it)`;
    }
  }
  return isFile(COMPILER) ? undefined : "there is no C compiler";
}

/** What the packages' paths begin with. */
function root(): string {
  const given = Deno.env.get(VARIABLE);
  return given === undefined || given === "required" ? "" : given;
}
