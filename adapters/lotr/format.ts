/**
 * Core and factor files: safetensors with lembas' metadata, in float32 or float16. Whatever is not
 * exactly such a file is refused.
 */
import {
  float32Tensor,
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../src/checkpoint/formats/safetensors.ts";
import type { ModuleName, SiteName } from "../../src/models/hook.ts";
import { Core, CORE_FORMAT } from "./core.ts";
import { FACTORS_FORMAT, FactorSet } from "./factors.ts";
import { parseModules, sitesOf } from "./stack.ts";

/** How values are stored; digests are over the float32 values that the file stands for. */
export type Storage = "float32" | "float16";

/** A core of 80 layers, all linears, rank 64, in float32 takes 9 MB. */
export const MAX_CORE_BYTES = 32 * 2 ** 20;
/** A factor set of a 70B model, all linears, rank 64, in float32 takes 36 MB. */
export const MAX_FACTORS_BYTES = 256 * 2 ** 20;

/**
 * A core file. In float16 the values are rounded, so the file holds (and names the digest of) the
 * rounded core: what `readCore` gives back.
 * @throws {TypeError} where a value does not fit float16.
 *
 * @example
 * ```ts
 * import { readCore, writeCore } from "@lembas/lembas";
 *
 * const core = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const bytes = writeCore(core, "float16");
 * console.assert(readCore(bytes).rank === core.rank);
 * ```
 */
export function writeCore(core: Core, storage: Storage = "float32"): Uint8Array<ArrayBuffer> {
  const stored = storage === "float16" ? core.with(roundHalf(core.cores)) : core;
  const { layers, modules, rank } = stored;
  return writeSafetensors(
    [["cores", encode([layers, modules.length, rank, rank], stored.cores, storage)]],
    Object.entries({
      format: CORE_FORMAT,
      base: stored.base,
      factors: stored.factors,
      layers: String(layers),
      rank: String(rank),
      alpha: String(stored.alpha),
      modules: JSON.stringify(modules),
      digest: stored.digest,
    }),
  );
}

/**
 * Reads a core file of at most 32 MiB.
 * @throws {RangeError | TypeError} naming the field, dtype or shape that is wrong.
 *
 * @example
 * ```ts
 * import { readCore } from "@lembas/lembas";
 *
 * const core = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * console.log(core.digest, core.rank, core.modules);
 * ```
 */
export function readCore(bytes: Uint8Array): Core {
  checkSize("core", bytes, MAX_CORE_BYTES);
  const { metadata, tensors } = parseSafetensors(bytes);
  const read = fieldsOf("core", CORE_FORMAT, metadata);
  const modules = modulesOf(read("modules"));
  const rank = numberOf("rank", read("rank"));
  const tensor = only(tensors, ["cores"]).get("cores");
  if (tensor === undefined) throw new TypeError("internal: the tensor was there a moment ago");
  const layers = tensor.shape[0] ?? 0;
  checkShape("cores", tensor, [layers, modules.length, rank, rank]);
  checkLayers(metadata, layers);
  const core = new Core({
    base: read("base"),
    factors: read("factors"),
    rank,
    alpha: numberOf("alpha", read("alpha")),
    modules,
    cores: decode("cores", tensor),
  });
  checkOwnDigest("core", metadata, core.digest);
  return core;
}

/**
 * A factor file; float16 rounds as `writeCore` does, and gives another set with another digest.
 *
 * @example
 * ```ts
 * import { readFactors, writeFactors } from "@lembas/lembas";
 *
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * const bytes = writeFactors(factors, "float16");
 * console.assert(readFactors(bytes).rank === factors.rank);
 * ```
 */
export function writeFactors(
  factors: FactorSet,
  storage: Storage = "float32",
): Uint8Array<ArrayBuffer> {
  const stored = storage === "float16" ? roundFactors(factors) : factors;
  const tensors: [string, SafetensorsTensor][] = [];
  for (const site of stored.sites) {
    const shape = [stored.inputSize(site), stored.rank];
    tensors.push([`A.${site}`, encode(shape, stored.a(site), storage)]);
  }
  for (const module of stored.modules) {
    const shape = [stored.rank, stored.outputSize(module)];
    tensors.push([`B.${module}`, encode(shape, stored.b(module), storage)]);
  }
  return writeSafetensors(
    tensors,
    Object.entries({
      format: FACTORS_FORMAT,
      base: stored.base,
      layers: String(stored.layers),
      rank: String(stored.rank),
      alpha: String(stored.alpha),
      modules: JSON.stringify(stored.modules),
      digest: stored.digest,
    }),
  );
}

/**
 * Reads a factor file of at most 256 MiB.
 * @throws {RangeError | TypeError} naming the field, dtype or shape that is wrong.
 *
 * @example
 * ```ts
 * import { readFactors } from "@lembas/lembas";
 *
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * console.log(factors.digest, factors.rank, factors.modules);
 * ```
 */
export function readFactors(bytes: Uint8Array): FactorSet {
  checkSize("factor set", bytes, MAX_FACTORS_BYTES);
  const { metadata, tensors } = parseSafetensors(bytes);
  const read = fieldsOf("factor set", FACTORS_FORMAT, metadata);
  const modules = modulesOf(read("modules"));
  const rank = numberOf("rank", read("rank"));
  const sites = sitesOf(modules);
  const known = only(tensors, [
    ...sites.map((site) => `A.${site}`),
    ...modules.map((module) => `B.${module}`),
  ]);
  const a = new Map<SiteName, Float32Array>();
  for (const site of sites) a.set(site, matrixOf(known, `A.${site}`, (n) => [n, rank]));
  const b = new Map<ModuleName, Float32Array>();
  for (const module of modules) b.set(module, matrixOf(known, `B.${module}`, (n) => [rank, n]));
  const layers = numberOf("layers", read("layers"));
  const alpha = numberOf("alpha", read("alpha"));
  const factors = new FactorSet({ base: read("base"), layers, rank, alpha, modules, a, b });
  checkOwnDigest("factor set", metadata, factors.digest);
  return factors;
}

/** Which of the two files the bytes say they are; undefined for another safetensors file. */
export function fileKind(bytes: Uint8Array): "core" | "factors" | undefined {
  const format = parseSafetensors(bytes).metadata.get("format");
  return format === CORE_FORMAT ? "core" : format === FACTORS_FORMAT ? "factors" : undefined;
}

/** The tensor's elements as float32, newly allocated. @throws {TypeError} for another dtype. */
export function decode(name: string, { dtype, data }: SafetensorsTensor): Float32Array {
  const bytes = data.slice().buffer;
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "F16") return Float32Array.from(new Float16Array(bytes));
  if (dtype === "BF16") return widenBrain(new Uint16Array(bytes));
  throw new TypeError(`Cannot read tensor '${name}': dtype is ${dtype}, F32 or F16 is wanted`);
}

function widenBrain(halves: Uint16Array): Float32Array {
  const wide = new Uint32Array(halves.length);
  halves.forEach((bits, i) => wide[i] = bits << 16);
  return new Float32Array(wide.buffer);
}

function encode(shape: number[], values: Float32Array, storage: Storage): SafetensorsTensor {
  if (storage === "float32") return float32Tensor(shape, values);
  return { dtype: "F16", shape, data: new Uint8Array(new Float16Array(values).buffer) };
}

function roundHalf(values: Float32Array): Float32Array {
  return Float32Array.from(new Float16Array(values));
}

function roundFactors(factors: FactorSet): FactorSet {
  const { base, layers, rank, alpha, modules } = factors;
  const a = new Map(factors.sites.map((site) => [site, roundHalf(factors.a(site))]));
  const b = new Map(modules.map((module) => [module, roundHalf(factors.b(module))]));
  return new FactorSet({ base, layers, rank, alpha, modules, a, b });
}

function checkSize(what: string, bytes: Uint8Array, most: number): void {
  if (bytes.length > most) {
    throw new RangeError(
      `Cannot read the ${what}: it has ${bytes.length} bytes, at most ${most} are read`,
    );
  }
}

function fieldsOf(
  what: string,
  format: string,
  metadata: ReadonlyMap<string, string>,
): (field: string) => string {
  const actual = metadata.get("format");
  if (actual !== format) {
    throw new TypeError(
      `Cannot read the ${what}: its format is ${JSON.stringify(actual)}, ${format} is wanted`,
    );
  }
  return (field) => {
    const value = metadata.get(field);
    if (value === undefined) {
      throw new TypeError(`Cannot read the ${what}: its metadata has no '${field}'`);
    }
    return value;
  };
}

function modulesOf(text: string): ModuleName[] {
  let names: unknown;
  try {
    names = JSON.parse(text);
  } catch (cause) {
    throw new TypeError(`Cannot read modules: ${JSON.stringify(text)} is not JSON`, { cause });
  }
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
    throw new TypeError(`Cannot read modules: ${text} is not a list of names`);
  }
  const modules = parseModules(names);
  if (modules.join() !== names.join()) {
    throw new TypeError(`Cannot read modules: [${names}] is not in the order [${modules}]`);
  }
  return modules;
}

function numberOf(field: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    throw new TypeError(`Cannot read ${field}: current value is ${JSON.stringify(text)}`);
  }
  return value;
}

function only(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  wanted: readonly string[],
): ReadonlyMap<string, SafetensorsTensor> {
  const names = [...tensors.keys()].sort();
  if (names.join() !== [...wanted].sort().join()) {
    throw new TypeError(`Cannot read tensors [${names}]: wanted are [${wanted}]`);
  }
  return tensors;
}

function checkShape(name: string, tensor: SafetensorsTensor, shape: readonly number[]): void {
  if (tensor.dtype !== "F32" && tensor.dtype !== "F16") {
    throw new TypeError(`Cannot read '${name}': dtype is ${tensor.dtype}, F32 or F16 is wanted`);
  }
  if (tensor.shape.join() !== shape.join()) {
    throw new TypeError(`Cannot read '${name}': shape is [${tensor.shape}], wanted is [${shape}]`);
  }
}

function matrixOf(
  tensors: ReadonlyMap<string, SafetensorsTensor>,
  name: string,
  shape: (width: number) => readonly [number, number],
): Float32Array {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new TypeError(`Cannot read the factor set: no tensor '${name}'`);
  const width = tensor.shape[name.startsWith("A.") ? 0 : 1] ?? 0;
  checkShape(name, tensor, shape(width));
  return decode(name, tensor);
}

function checkLayers(metadata: ReadonlyMap<string, string>, layers: number): void {
  const said = metadata.get("layers");
  if (said !== undefined && Number(said) !== layers) {
    throw new TypeError(`Cannot read the core: it has ${layers} layers, its metadata say ${said}`);
  }
}

function checkOwnDigest(what: string, metadata: ReadonlyMap<string, string>, actual: string): void {
  const said = metadata.get("digest");
  if (said !== undefined && said !== actual) {
    throw new TypeError(
      `Cannot read the ${what}: its content has digest ${actual}, its metadata say ${said}`,
    );
  }
}
