// deno-lint-ignore-file no-console -- what a program prints is its result
/** Prints why a base is not loaded on WebGPU. Arguments: the precision, the adapter's number. */
import { loadBase } from "../../../adapters/loaded_base.ts";
import type { DtypeChoice } from "../../../src/executor/precision.ts";

const [given, number] = Deno.args;
const dtype = given as DtypeChoice;
const device = number === undefined ? "webgpu" : `webgpu:${Number(number)}` as const;

try {
  await loadBase({ model: "none", device, dtype, maxBatch: 1 });
  console.log(JSON.stringify("loaded"));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? `${error.name}: ${error.message}` : "?"));
}
