// deno-lint-ignore-file no-console -- what a program prints is its result
/** Prints why a base is not loaded on a WebGPU device that is there. */
import { loadBase } from "../../../adapters/loaded_base.ts";

try {
  await loadBase({ model: "none", device: "webgpu", dtype: "fp32", maxBatch: 1 });
  console.log(JSON.stringify("loaded"));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? `${error.name}: ${error.message}` : "?"));
}
