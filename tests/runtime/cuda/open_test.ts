/** What opening CUDA says where each piece is missing, without a GPU. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { type Driver, lackOfDriver, readDriver } from "../../../src/runtime/cuda/driver.ts";
import {
  ABOUT,
  type CudaAbout,
  cudaFiles,
  cudaFolder,
  lackOfLayout,
  NVIDIA_LIBRARIES,
  PROVIDER_LIBRARIES,
  RUNTIME_LIBRARY,
} from "../../../src/runtime/cuda/layout.ts";
import { cudaCanBe, openCuda } from "../../../src/runtime/cuda/open.ts";
import { openLibrary, type OrtLibrary } from "../../../src/runtime/onnx/ort_api.ts";
import { folderOnPath, needing } from "../../programs/needing.ts";

/** With it "required", what needs more than Linux x64 alone has to run. */
const VARIABLE = "LEMBAS_TEST_CUDA";
const ELSEWHERE = cudaCanBe() ? undefined : "CUDA is for Linux x64";

/**
 * A folder that is whole by its names and sizes. Each library is `content`, by default npm's ONNX
 * Runtime, which opens.
 */
async function layout(
  { folder: from, version, commit }: OrtLibrary,
  content: Readonly<Record<string, string>> = {},
): Promise<string> {
  const folder = await Deno.makeTempDir();
  for (const name of cudaFiles()) {
    const text = content[name];
    if (text !== undefined) await Deno.writeTextFile(`${folder}/${name}`, text);
    else if (name === RUNTIME_LIBRARY) await Deno.copyFile(`${from}/${name}`, `${folder}/${name}`);
    else await Deno.symlink(`${from}/${RUNTIME_LIBRARY}`, `${folder}/${name}`);
  }
  const files = cudaFiles().map((name) => [name, Deno.statSync(`${folder}/${name}`).size]);
  await say(folder, { version, commit, files: Object.fromEntries(files) });
  return folder;
}

async function say(folder: string, about: CudaAbout): Promise<void> {
  await Deno.writeTextFile(`${folder}/${ABOUT}`, JSON.stringify(about));
}

/** The sentence with which opening CUDA from a folder ends. */
function refusal(npm: OrtLibrary, folder: string): string {
  const { message } = assertThrows(() => openCuda(npm, { folder }), Deno.errors.NotSupported);
  assert(!message.includes("\n"), message);
  return message;
}

async function withLayout(
  run: (npm: OrtLibrary, folder: string) => Promise<void> | void,
  content: Readonly<Record<string, string>> = {},
): Promise<void> {
  const npm = openLibrary();
  const folder = await layout(npm, content);
  try {
    await run(npm, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
    npm.close();
  }
}

Deno.test(needing("cuda names the task that sets it up", ELSEWHERE, VARIABLE), () => {
  const npm = openLibrary();
  const text = refusal(npm, "no/such/folder");
  assertEquals(
    text,
    `Cannot use CUDA: NVIDIA's libraries for ONNX Runtime ${npm.version} are not set up: ` +
      "run deno task setup:cuda",
  );
  npm.close();
});

Deno.test(
  needing("each library that is missing or cut off is named", ELSEWHERE, VARIABLE),
  async () => {
    await withLayout(async (npm, folder) => {
      assertEquals(lackOfLayout(folder, npm), undefined);
      for (const name of cudaFiles()) {
        await Deno.rename(`${folder}/${name}`, `${folder}/away`);
        assertStringIncludes(refusal(npm, folder), `${name} in ${folder} is missing or damaged`);
        await Deno.writeTextFile(`${folder}/${name}`, "cut off");
        assertStringIncludes(refusal(npm, folder), `${name} in ${folder} is missing or damaged`);
        await Deno.rename(`${folder}/away`, `${folder}/${name}`);
      }
      assertEquals(lackOfLayout(folder, npm), undefined);
    });
  },
);

Deno.test(
  needing("libraries for another build of ONNX Runtime are refused", ELSEWHERE, VARIABLE),
  async () => {
    await withLayout(async (npm, folder) => {
      const about = JSON.parse(await Deno.readTextFile(`${folder}/${ABOUT}`));
      await say(folder, { ...about, version: "1.2.3" });
      assertStringIncludes(refusal(npm, folder), "is for ONNX Runtime 1.2.3");
      await say(folder, { ...about, commit: "abcdef" });
      assertStringIncludes(
        refusal(npm, folder),
        `(abcdef), npm's is ${npm.version} (${npm.commit})`,
      );
      for (const text of ["", "[]", "null", '{"version":"1.30.0"}']) {
        await Deno.writeTextFile(`${folder}/${ABOUT}`, text);
        assertStringIncludes(refusal(npm, folder), "does not say what was set up");
      }
    });
  },
);

Deno.test(
  needing(
    "libraries are opened in their order, and the first that does not is named",
    ELSEWHERE,
    VARIABLE,
  ),
  async () => {
    for (const [i, name] of NVIDIA_LIBRARIES.entries()) {
      const later = NVIDIA_LIBRARIES.slice(i).map((each) => [each, "no library"]);
      await withLayout((npm, folder) => {
        assertStringIncludes(refusal(npm, folder), `Cannot use CUDA: ${name} does not open (`);
      }, Object.fromEntries(later));
    }
  },
);

Deno.test(
  needing("a provider that does not load is told, after the driver", ELSEWHERE, VARIABLE),
  async () => {
    const [shared] = PROVIDER_LIBRARIES;
    await withLayout((npm, folder) => {
      const lack = lackOfDriver(readDriver());
      assertStringIncludes(refusal(npm, folder), lack ?? shared);
    }, { [shared]: "no library" });
  },
);

Deno.test(
  needing(
    "with everything set up, cuda lacks the driver alone",
    notSetUp(),
    VARIABLE,
  ),
  () => {
    const npm = openLibrary();
    assertEquals(
      refusal(npm, cudaFolder(npm.version)),
      "Cannot use CUDA: libcuda.so.1 is missing: install NVIDIA's driver, version 580 or newer",
    );
    npm.close();
  },
);

/** Why the whole of CUDA cannot be tried here. */
function notSetUp(): string | undefined {
  if (ELSEWHERE !== undefined) return ELSEWHERE;
  const { version, commit, close } = openLibrary();
  close();
  const lack = lackOfLayout(cudaFolder(version), { version, commit });
  if (lack !== undefined) return "deno task setup:cuda was not run";
  return readDriver().type !== "missing" ? "there is a driver" : undefined;
}

/** A driver's library that answers with these. */
const DRIVER = `
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int i) { *device = i; return 0; }
int cuDeviceGetName(char *name, int n, int device) { strncpy(name, "Test GPU", n); return 0; }
int cuDeviceTotalMem_v2(unsigned long *bytes, int device) { *bytes = 8ul << 30; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "no device"; return 0; }
`;

async function driver(values: Readonly<Record<string, number>>): Promise<Driver> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/driver.c`, DRIVER);
    const defined = Object.entries(values).map(([name, value]) => `-D${name}=${value}`);
    const { success, stderr } = await new Deno.Command("cc", {
      args: ["-shared", "-fPIC", ...defined, "-o", `${folder}/driver.so`, `${folder}/driver.c`],
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    return readDriver(`${folder}/driver.so`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test(
  needing(
    "a driver's CUDA and GPUs are read, and one that is too old or finds nothing is told",
    ELSEWHERE ?? (folderOnPath("cc") === undefined ? "there is no cc" : undefined),
    VARIABLE,
  ),
  async () => {
    const good = await driver({ INIT: 0, VERSION: 13000, COUNT: 1 });
    const gpus = [{ name: "Test GPU", memory: 8 * 2 ** 30 }];
    assertEquals(good, { type: "found", cuda: "13.0", gpus });
    assertEquals(lackOfDriver(good), undefined);
    const lacks = async (values: Readonly<Record<string, number>>) =>
      lackOfDriver(await driver(values)) ?? "";
    assertStringIncludes(await lacks({ INIT: 0, VERSION: 12040, COUNT: 1 }), "CUDA up to 12.4");
    assertStringIncludes(await lacks({ INIT: 0, VERSION: 13000, COUNT: 0 }), "finds no GPU");
    assertStringIncludes(await lacks({ INIT: 100, VERSION: 0, COUNT: 0 }), "(no device)");
  },
);

Deno.test("a driver that is not there is missing", () => {
  const missing = readDriver("no/such/libcuda.so.1");
  assertEquals(missing, { type: "missing" });
  assertStringIncludes(lackOfDriver(missing) ?? "", "version 580 or newer");
});
