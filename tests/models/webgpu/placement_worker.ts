// deno-lint-ignore-file no-console camelcase -- what a program prints is its result; op_name is ONNX Runtime's
/**
 * What ran where in a prompt's step and in a decode step on WebGPU, by ONNX Runtime's profile. Prints
 * the operators of each provider, and the names of the nodes that ran on the CPU. Arguments: the
 * model; how its weights are served, or "cpu" for float32 with the CPU's rounded embedding; the type of
 * activations.
 */
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { devicePlan, planOf, type ServingDtype } from "../../../src/executor/plan/serving_plan.ts";
import { MODULES } from "../../../src/models/hook.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import type { FloatType } from "../../../src/util/floats.ts";
import { factorsOf, randomPrompt } from "../../engine/tiny.ts";
import { pathOf } from "./compare.ts";
import { Stepper } from "./stepper.ts";

interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly args: { readonly provider?: string; readonly op_name?: string };
}

const SLOTS = 4;
const KERNEL = "_kernel_time";
const [name, dtype, activations] = Deno.args as [string, ServingDtype | "cpu", FloatType];

using checkpoint = await openCheckpoint(pathOf(name));
using device = openDevice("webgpu");
const hook = factorsOf(checkpoint, await checkpoint.digest(), { rank: 8, modules: MODULES });
const folder = await Deno.makeTempDir();
const plan = dtype === "cpu"
  ? { ...planOf({ dtype: "fp32", maxBatch: SLOTS }), embedding: "int8" as const }
  : devicePlan("webgpu", { dtype }, activations);
const profile = `${folder}/step`;
const options = { hook, slots: SLOTS, capacity: 64, plan, profile };
using stepper = await Stepper.open(device, checkpoint, options);
await stepper.step([{ tokens: randomPrompt(20, 1, 100), past: 0 }]);
await stepper.step(Array.from({ length: SLOTS }, (_, row) => ({ tokens: [row], past: 20 + row })));

const events: readonly ProfileEvent[] = JSON.parse(await Deno.readTextFile(stepper.profiled()));
const kernels = events.filter(({ cat, name }) => cat === "Node" && name.endsWith(KERNEL));
const operators: Record<string, string[]> = {};
for (const { args: { provider = "", op_name: operator = "" } } of kernels) {
  const known = operators[provider] ??= [];
  if (!known.includes(operator)) known.push(operator);
}
const onCpu = kernels.filter(({ args }) => args.provider === "CPUExecutionProvider")
  .map(({ name }) => name.slice(0, -KERNEL.length));
console.log(JSON.stringify({ operators, onCpu, count: kernels.length }));
await Deno.remove(folder, { recursive: true });
