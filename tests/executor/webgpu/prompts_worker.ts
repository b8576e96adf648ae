// deno-lint-ignore-file no-console -- what a program prints is its result
/**
 * Attention alone on WebGPU against the naive evaluator, a row of so many tokens behind so many
 * others, with a window and without: as steps ask for it, and with the keys that there are. Prints the
 * largest differences, how many tokens a run may have, and what is said of the device. Argument: "long"
 * for prompts of 512 tokens, too.
 */
import { unscaled } from "../../../src/checkpoint/rope_config.ts";
import { promptsOf, SPARE_TOKENS } from "../../../src/executor/device/prompts.ts";
import { lower, type LoweringPlan } from "../../../src/graph/lowering/lowering.ts";
import { GraphBuilder } from "../../../src/graph/graph.ts";
import { evaluate } from "../../../src/graph/reference/evaluate.ts";
import type { Tensor, TypedArray } from "../../../src/runtime/device.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { distance, FLOAT32, randomArray, RandomParameters } from "../../graph/run.ts";

const SHAPE = { heads: 4, kvHeads: 2, headDim: 16, scale: 0.5 };
const POSITIONS = 640 + SPARE_TOKENS;
/** Tokens of a run, and those before it. */
const SHORT = [[1, 70], [31, 100], [32, 0], [64, 37]];
const LONG = [[31, 0], [32, 100], [64, 0], [512, 0], [512, 100]];
const RUNS = Deno.args[0] === "long" ? [...SHORT, ...LONG] : SHORT;
const PLAN: LoweringPlan = { ...FLOAT32, device: "webgpu" };

using host = openDevice("cpu");
using device = openDevice("webgpu");

function attention(window: number | undefined) {
  const { heads, kvHeads, headDim } = SHAPE;
  const graph = new GraphBuilder();
  const cache = [1, kvHeads, POSITIONS, headDim];
  const args = {
    ...{ ...SHAPE, window },
    qkv: graph.input("qkv", "float32", ["tokens", (heads + 2 * kvHeads) * headDim]),
    keys: graph.state("keys", "float32", cache),
    values: graph.state("values", "float32", cache),
    lengths: graph.input("lengths", "int32", [1]),
    total: graph.input("total", "int32", [1]),
    grid: graph.input("grid", "int64", [2]),
    cos: graph.parameter("cos", [POSITIONS, headDim / 2]),
    sin: graph.parameter("sin", [POSITIONS, headDim / 2]),
  };
  return graph.finish([graph.add("attention", args, "out")]);
}

async function offs(window: number | undefined) {
  const { heads, kvHeads, headDim } = SHAPE;
  const ropes = [unscaled(100, headDim)];
  const layers = [{ rope: 0, window }];
  const heady = { numHeads: heads, numKvHeads: kvHeads, headDim, ropes, layers };
  const prompts = await promptsOf({ device, host, floats: "float32" }, heady, POSITIONS);
  const graph = attention(window);
  const parameters = new RandomParameters(graph);
  const lowered = lower(graph, parameters, PLAN);
  using made = new DisposableStack();
  const initializers: Record<string, Tensor> = {};
  for (const [name, { dtype, shape, make }] of lowered.weights) {
    initializers[name] = made.use(device.tensor(dtype, shape, await make()));
  }
  const session = made.use(await device.session(lowered.model(), { initializers }));
  const found: { time: number; off: number; plain: number }[] = [];
  for (const [time, past] of RUNS) {
    const cache = { shape: [1, kvHeads, POSITIONS, headDim] };
    const given = {
      qkv: {
        shape: [time, (heads + 2 * kvHeads) * headDim],
        data: randomArray(time * (heads + 2 * kvHeads) * headDim, time),
      },
      keys: { ...cache, data: randomArray(kvHeads * POSITIONS * headDim, 1) },
      values: { ...cache, data: randomArray(kvHeads * POSITIONS * headDim, 2) },
      lengths: { shape: [1], data: Int32Array.of(past + time - 1) },
      total: { shape: [1], data: Int32Array.of(past + time) },
      grid: { shape: [2], data: Int32Array.of(1, time) },
    };
    const [wanted] = evaluate(graph, structuredClone(given), parameters);
    const run = async (total: number) => {
      using room = new DisposableStack();
      const tensors: Record<string, Tensor> = {};
      for (const [name, { shape, data }] of Object.entries(given)) {
        const dtype = name === "grid" ? "int64" : data instanceof Int32Array ? "int32" : "float32";
        const own: TypedArray = name === "grid" ? BigInt64Array.of(1n, BigInt(time)) : data.slice();
        if (name === "total") own[0] = total;
        const tensor = room.use(device.tensor(dtype, shape, own as never));
        tensors[name] = tensor;
        if (name !== "keys" && name !== "values") continue;
        tensors[name] = room.use(await device.allocate("float32", shape));
        await device.copy([{ from: tensor, to: tensors[name] }]);
      }
      const out = room.use(device.tensor("float32", wanted.shape));
      const written = { out, "keys.out": tensors.keys, "values.out": tensors.values };
      await room.use(session.bind(tensors, written)).run();
      return distance(out.data as Float32Array, wanted.data as Float32Array);
    };
    const [off, plain] = [await run(prompts.total(past + time, time)), await run(past + time)];
    found.push({ time, off, plain });
  }
  const { tokens, warning } = prompts;
  return { tokens, warning, found };
}

console.log(JSON.stringify([await offs(undefined), await offs(40)]));
