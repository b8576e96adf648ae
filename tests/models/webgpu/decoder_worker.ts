// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Prints how far WebGPU is from the CPU's float32. Arguments: the model, how its weights are served, and
 * the type of activations.
 */
import type { ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import type { FloatType } from "../../../src/util/floats.ts";
import { compared } from "./compare.ts";

const [name, dtype = "fp32", activations = "float32"] = Deno.args as [
  string,
  ServingDtype?,
  FloatType?,
];
using device = openDevice("webgpu");
console.log(JSON.stringify(await compared({ device, name, dtype, activations })));
