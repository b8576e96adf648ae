// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Seeded traces of the engine on WebGPU, one short of memory and one whose prefixes stay; prints what
 * each came to.
 */
import { openDevice } from "../../../src/runtime/open.ts";
import { runTrace, type Trace, type Traced } from "../executor_trace.ts";

const TRACES: readonly Trace[] = [
  { seed: 1, requests: 120, longest: 80, kvTokens: 320, steps: 1500 },
  { seed: 2, requests: 130, longest: 40, kvTokens: 4000, steps: 300 },
];

using device = openDevice("webgpu");
const traced: Traced[] = [];
for (const trace of TRACES) traced.push(await runTrace(trace, device));
console.log(JSON.stringify(traced));
