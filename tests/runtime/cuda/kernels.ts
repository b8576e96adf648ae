/**
 * What kernels ONNX Runtime's CUDA provider has, by its library's own names of their classes (Itanium
 * C++ ABI, type names of the run-time type information): a kernel that is registered for some types
 * is a class template of these. Run as a program with the library's path it writes the table that
 * `tests/fixtures/runtime/cuda_kernels.json` keeps, so that graphs are checked without the library.
 */

import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };

/** Template arguments of each kernel's classes, such as `{ MatMul: ["BFloat16", "MLFloat16", …] }`. */
export type KernelTable = Readonly<Record<string, readonly string[]>>;

/** Classes of kernels that lembas' graphs use: contrib operators are in a namespace of their own. */
export const CLASSES = [
  "Add",
  "ArgMax",
  "Cast",
  "Concat",
  "CumSum",
  "Equal",
  "Exp",
  "Gather",
  "GatherBlockQuantized",
  "Gemm",
  "GroupQueryAttention",
  "LayerNorm",
  "LessOrEqual",
  "MatMul",
  "MatMulNBits",
  "Max",
  "Min",
  "Mul",
  "Pad",
  "QuickGelu",
  "ReduceMax",
  "ReduceSum",
  "Reshape",
  "ScatterNDWithAtomicReduction",
  "SkipLayerNorm",
  "Slice",
  "Softmax",
  "Split_18",
  "Sub",
  "TopK",
  "Where",
] as const;

const PREFIX = "N11onnxruntime";
const VARIADIC =
  /^N11onnxruntime4cuda21VariadicElementwiseOpINS0_24variadic_elementwise_ops\d(\w+?)EJ(.+)EEE$/;
const BUILTIN: Readonly<Record<string, string>> = {
  ...{ f: "float", d: "double", a: "int8", h: "uint8", i: "int32", l: "int64", b: "bool" },
  ...{ s: "int16", t: "uint16", j: "uint32", m: "uint64" },
};
const CHUNK = 2 ** 24;

/** Reads a library some megabytes at a time. */
export async function readKernels(path: string): Promise<KernelTable> {
  const found = new Map<string, Set<string>>(CLASSES.map((name) => [name, new Set<string>()]));
  using file = await Deno.open(path);
  const buffer = new Uint8Array(CHUNK);
  const latin = new TextDecoder("latin1");
  let rest = "";
  for (let n = await file.read(buffer); n !== null; n = await file.read(buffer)) {
    const text = rest + latin.decode(buffer.subarray(0, n));
    for (const [name] of text.matchAll(/N11onnxruntime(?:7contrib)?4cuda\w+E(?=\0)/g)) {
      const kernel = kernelOf(name);
      if (kernel !== undefined) found.get(kernel.name)?.add(kernel.types.join(" "));
      const variadic = variadicOf(name);
      for (const type of variadic?.types ?? []) found.get(variadic?.name ?? "")?.add(type);
    }
    // a name may go on in the next part
    rest = text.slice(-256);
  }
  return Object.fromEntries([...found].map(([name, types]) => [name, [...types].sort()]));
}

/** A class and its template arguments; undefined where a name is not one of a kernel's. */
function kernelOf(mangled: string): { name: string; types: readonly string[] } | undefined {
  const contrib = mangled.startsWith("7contrib", PREFIX.length);
  const start = PREFIX.length + (contrib ? "7contrib4cuda" : "4cuda").length;
  const named = identifier(mangled, start);
  if (named === undefined) return undefined;
  const types: string[] = [];
  let at = named.end;
  if (mangled[at] === "I") {
    at++;
    while (mangled[at] !== "E") {
      const argument = argumentAt(mangled, at, types);
      if (argument === undefined) return undefined;
      types.push(argument.type);
      at = argument.end;
    }
    at++;
  }
  return mangled.slice(at) === "E" ? { name: named.name, types } : undefined;
}

/** `Min` and `Max`: one class for a pack of types. */
function variadicOf(mangled: string): { name: string; types: readonly string[] } | undefined {
  const [, name, pack] = VARIADIC.exec(mangled) ?? [];
  if (name === undefined || pack === undefined) return undefined;
  const types: string[] = [];
  for (let at = 0; at < pack.length;) {
    const argument = argumentAt(pack, at, types);
    if (argument === undefined) return undefined;
    types.push(argument.type);
    at = argument.end;
  }
  return { name, types };
}

/** A template argument: a built-in type, a type of ONNX Runtime's, a truth value, or one met before. */
function argumentAt(
  text: string,
  at: number,
  before: readonly string[],
): { type: string; end: number } | undefined {
  const builtin = BUILTIN[text[at]];
  if (builtin !== undefined) return { type: builtin, end: at + 1 };
  const truth = /^Lb([01])E/.exec(text.slice(at));
  if (truth !== null) return { type: truth[1] === "1" ? "true" : "false", end: at + 4 };
  const again = /^S\d*_/.exec(text.slice(at));
  const own = before.findLast((type) => /^[A-Z]/.test(type));
  if (again !== null && own !== undefined) return { type: own, end: at + again[0].length };
  if (!text.startsWith("NS_", at)) return undefined;
  const named = identifier(text, at + 3);
  if (named === undefined || text[named.end] !== "E") return undefined;
  return { type: named.name, end: named.end + 1 };
}

/** `LENGTH NAME`. */
function identifier(text: string, at: number): { name: string; end: number } | undefined {
  const digits = /^\d+/.exec(text.slice(at, at + 3))?.[0];
  if (digits === undefined) return undefined;
  const start = at + digits.length;
  const end = start + Number(digits);
  return { name: text.slice(start, end), end };
}

if (import.meta.main) {
  const [library, table] = Deno.args;
  const kernels = await readKernels(library);
  await Deno.writeTextFile(
    table,
    JSON.stringify({ onnxruntime: onnxruntime.version, kernels }, undefined, 2) + "\n",
  );
}
