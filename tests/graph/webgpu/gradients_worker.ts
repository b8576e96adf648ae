// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * A decoder's loss and gradients on WebGPU against the naive evaluator: prints, by name, the largest
 * difference over the root mean square of what is expected.
 */
import { openDevice } from "../../../src/runtime/open.ts";
import { gradientsOf } from "../differences.ts";
import { both, relative } from "../pairs.ts";
import { FLOAT32 } from "../run.ts";
import { decoder, decoderInputs } from "../training_decoder.ts";

using device = openDevice("webgpu");
const made = decoder();
const wanted = [...made.cores, ...made.factors];
const gradients = gradientsOf(made.graph, made.nll, made.seeds, wanted);
const graph = made.graph.finish([made.nll, ...gradients]);
const plan = { ...FLOAT32, device: "webgpu" } as const;
const pairs = await both(graph, decoderInputs(made), plan, device);
const off = pairs.map((pair, i) => [i === 0 ? "nll" : wanted[i - 1].name, relative(pair)]);
console.log(JSON.stringify(Object.fromEntries(off)));
