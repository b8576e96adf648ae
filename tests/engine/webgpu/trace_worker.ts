// deno-lint-ignore-file no-console -- what a program prints is its result
/** A seeded trace of the engine on WebGPU; prints how many runs of the model it took. Argument: requests. */
import { openDevice } from "../../../src/runtime/open.ts";
import { runTrace } from "../executor_trace.ts";

const requests = Number(Deno.args[0]);
using device = openDevice("webgpu");
const trace = { seed: 1, requests, longest: 80, kvTokens: 320, steps: requests * 7 };
console.log(JSON.stringify({ steps: await runTrace(trace, device) }));
