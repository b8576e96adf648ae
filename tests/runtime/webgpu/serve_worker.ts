// deno-lint-ignore-file no-console -- what a program prints is its result
/** Prints why a base is not loaded on WebGPU. Argument: the precision. */
import { loadBase } from "../../../adapters/loaded_base.ts";
import type { DtypeChoice } from "../../../src/executor/precision.ts";

const dtype = Deno.args[0] as DtypeChoice;

try {
  await loadBase({ model: "none", device: "webgpu", dtype, maxBatch: 1 });
  console.log(JSON.stringify("loaded"));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? `${error.name}: ${error.message}` : "?"));
}
