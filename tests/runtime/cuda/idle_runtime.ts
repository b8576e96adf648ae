// deno-lint-ignore-file camelcase -- NVIDIA's names
/**
 * NVIDIA's libraries as C programs that find one GPU, keep its memory on the host, copy there and back,
 * and compute nothing: over them the real CUDA provider opens, and whatever moves memory is as on a GPU.
 */
import { assert } from "@std/assert";

/** What has to answer more than "done". */
const ANSWERS: Readonly<Record<string, string>> = {
  cudaGetDeviceCount: "int cudaGetDeviceCount(int *n) { *n = 1; return 0; }",
  cudaGetDevice: "int cudaGetDevice(int *n) { *n = 0; return 0; }",
  cudaDriverGetVersion: "int cudaDriverGetVersion(int *n) { *n = 13000; return 0; }",
  cudaRuntimeGetVersion: "int cudaRuntimeGetVersion(int *n) { *n = 13000; return 0; }",
  cudaGetDeviceProperties:
    'int cudaGetDeviceProperties(char *p, int d) { memset(p, 0, 1008); strcpy(p, "Idle"); return 0; }',
  cudaMalloc: "int cudaMalloc(void **p, size_t n) { *p = calloc(1, n + 1); return *p ? 0 : 2; }",
  cudaMallocHost: "int cudaMallocHost(void **p, size_t n) { *p = calloc(1, n + 1); return 0; }",
  cudaHostAlloc:
    "int cudaHostAlloc(void **p, size_t n, unsigned f) { *p = calloc(1, n + 1); return 0; }",
  cudaFree: "int cudaFree(void *p) { free(p); return 0; }",
  cudaFreeHost: "int cudaFreeHost(void *p) { free(p); return 0; }",
  cudaMemcpy: "int cudaMemcpy(void *d, void *s, size_t n, int k) { memmove(d, s, n); return 0; }",
  cudaMemcpyAsync:
    "int cudaMemcpyAsync(void *d, void *s, size_t n, int k, void *t) { memmove(d, s, n); return 0; }",
  cudaMemset: "int cudaMemset(void *d, int v, size_t n) { memset(d, v, n); return 0; }",
  cudaMemGetInfo:
    "int cudaMemGetInfo(size_t *f, size_t *t) { *f = 15ul << 30; *t = 16ul << 30; return 0; }",
  cudaGetErrorString: 'char *cudaGetErrorString(int e) { return "idle"; }',
  cudaGetErrorName: 'char *cudaGetErrorName(int e) { return "idle"; }',
  cublasGetStatusString: 'char *cublasGetStatusString(int e) { return "idle"; }',
  cublasGetStatusName: 'char *cublasGetStatusName(int e) { return "idle"; }',
  __cudaRegisterFatBinary:
    "void **__cudaRegisterFatBinary(void *p) { static void *x[4]; return x; }",
  cuDriverGetVersion: "int cuDriverGetVersion(int *n) { *n = 13000; return 0; }",
  cuDeviceGetCount: "int cuDeviceGetCount(int *n) { *n = 1; return 0; }",
  cuDeviceGetName:
    'int cuDeviceGetName(char *p, int n, int d) { strncpy(p, "Idle", n); return 0; }',
  cuDeviceTotalMem_v2: "int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 16ul << 30; return 0; }",
};

/** Of these the handle that is asked for must not be null. */
const MADE = /(?:Create|CreateWithFlags|Create_v2)$/;

/** The driver's, which lembas asks itself. */
const DRIVER = [
  ...["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName"],
  ...["cuDeviceTotalMem_v2", "cuGetErrorString", "cuTensorMapEncodeTiled"],
];

/** Writes `names` to a folder, with every symbol that the provider wants of them. */
export async function writeIdleRuntime(
  folder: string,
  provider: string,
  names: readonly string[],
): Promise<void> {
  const wanted = await symbolsOf(provider);
  for (const name of names) {
    const own = name === "libcuda.so.1" ? DRIVER : wanted.get(name) ?? [];
    await compile(`${folder}/${name}`, name, own);
  }
}

/** Undefined symbols by the version (a library's name) that they are wanted of. */
async function symbolsOf(library: string): Promise<Map<string, string[]>> {
  const lines = (await run("nm", "-D", "--undefined-only", library)).split("\n");
  const pairs = lines.flatMap((line) => {
    const [symbol, version] = line.trim().split(" ").at(-1)?.split("@") ?? [];
    return version?.startsWith("libcu") ? [[version, symbol] as const] : [];
  });
  const by = Map.groupBy(pairs, ([version]) => version);
  return new Map([...by].map(([version, some]) => [version, some.map(([, symbol]) => symbol)]));
}

async function compile(path: string, name: string, symbols: readonly string[]): Promise<void> {
  const functions = symbols.map((symbol) => ANSWERS[symbol] ?? plain(symbol));
  const source = ["#include <stdlib.h>", "#include <string.h>", ...functions];
  await Deno.writeTextFile(`${path}.c`, `${source.join("\n")}\nint idle_(void) { return 0; }\n`);
  await Deno.writeTextFile(`${path}.map`, `${name} { global: *; };\n`);
  const versions = name === "libcuda.so.1" ? [] : [`-Wl,--version-script=${path}.map`];
  await run(
    "cc",
    "-w",
    "-shared",
    "-fPIC",
    "-o",
    path,
    `${path}.c`,
    `-Wl,-soname,${name}`,
    ...versions,
  );
  await Promise.all([Deno.remove(`${path}.c`), Deno.remove(`${path}.map`)]);
}

function plain(symbol: string): string {
  if (!MADE.test(symbol)) return `int ${symbol}(void) { return 0; }`;
  return `int ${symbol}(void **p) { static char x[64]; *p = x; return 0; }`;
}

async function run(command: string, ...args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args] }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
