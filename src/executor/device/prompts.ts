/**
 * How attention over prompts is computed on a graphics device. From 32 tokens of a row on, ONNX
 * Runtime's WebGPU provider takes a kernel that is wrong where subgroups are narrow (seen on SwiftShader
 * and lavapipe). It takes another, slower one where a window ends before the last key, so a step may ask for that one
 * by telling more keys than there are. Which one is right is tried once for each base.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import { widestWindow } from "../../checkpoint/layers.ts";
import { ropeTables, ropeWidth } from "../../checkpoint/rope.ts";
import { type Graph, GraphBuilder } from "../../graph/graph.ts";
import { deviceWindow } from "../../graph/lowering/lowering_attention.ts";
import { lower, type LoweringPlan } from "../../graph/lowering/lowering.ts";
import { DeviceWeights } from "../../models/device_weights.ts";
import type { Device, Tensor } from "../../runtime/device.ts";
import { encodeFloats, type FloatType } from "../../util/floats.ts";
import { philox } from "../philox.ts";

/** Up to so many tokens of a row the provider's kernel is right everywhere. */
const SHORT = 31;
/** Most tokens of a prefill run: larger runs are no faster per token. */
export const PREFILL_TOKENS = 512;
/** Sums in another order, and in float16 products, too; what is wrong is off by tenths. */
const TOLERANCES: { readonly [K in FloatType]: number } = {
  float32: 1e-3,
  float16: 2e-2,
  bfloat16: 1e-1,
};

/** Caches and RoPE's tables have room for one token more than a row may have, for the other kernel. */
export const SPARE_TOKENS = 1;

/** Tokens of a trial: a prompt, and a chunk behind as many others. */
const [TOKENS, ALL] = [64, 128];
const POSITIONS = ALL + SPARE_TOKENS;

/** How prompts are computed. */
export interface Prompts {
  /** Most tokens of a run. */
  readonly tokens: number;
  /** Whether prompts of any length are right in one way or the other. */
  readonly holds: boolean;
  /** What to say about it; undefined where nothing is out of the ordinary. */
  readonly warning: string | undefined;
  /** What a step of `time` tokens of a row tells as its keys' number, `end` with its own. */
  total(end: number, time: number): number;
}

type Shape = Pick<DecoderConfig, "numHeads" | "numKvHeads" | "headDim" | "ropes" | "layers">;

/** Where it is tried, against what, and in which type. */
interface Trial {
  readonly device: Device;
  readonly host: Device;
  readonly floats: FloatType;
}

/** Tries it on a device. `positions`: tokens of a row, and the spare one. */
export async function promptsOf(
  trial: Trial,
  shape: Shape,
  positions: number,
): Promise<Prompts> {
  const own = (end: number) => end;
  if (await isRight(trial, shape, own)) {
    return { tokens: PREFILL_TOKENS, holds: true, warning: undefined, total: own };
  }
  const beyond = (window: number) => (end: number) => Math.max(end, window + 1);
  if (await isRight(trial, shape, beyond(ALL))) {
    const other = beyond(deviceWindow(widestWindow(shape), positions));
    return {
      tokens: PREFILL_TOKENS,
      holds: true,
      warning: `the faster attention over prompts is wrong on this graphics device: a slower one ` +
        `over all of a row's room serves prompts of more than ${SHORT} tokens`,
      total: (end, time) => time > SHORT ? other(end) : end,
    };
  }
  return {
    tokens: SHORT,
    holds: false,
    warning:
      `attention over more than ${SHORT} tokens is wrong on this graphics device: prompts are ` +
      `computed ${SHORT} tokens at a time`,
    total: own,
  };
}

async function isRight(
  { device, host, floats }: Trial,
  shape: Shape,
  total: Prompts["total"],
): Promise<boolean> {
  const wanted = await attended(host, { device: "cpu" }, shape, (end) => end);
  const plan = { device: device.name, activations: floats };
  const found = await attended(device, plan, shape, total);
  return found.every((x, i) => Math.abs(x - wanted[i]) < TOLERANCES[floats]);
}

/** What a prompt, and then a chunk behind it, attend to: [ALL, heads × D]. */
async function attended(
  device: Device,
  kernels: Pick<LoweringPlan, "device" | "activations">,
  shape: Shape,
  total: Prompts["total"],
): Promise<Float32Array> {
  const { activations: floats = "float32" } = kernels;
  const { numHeads, numKvHeads, headDim, ropes: [first] } = shape;
  using made = new DisposableStack();
  const weights = made.adopt(new DeviceWeights(device), (weights) => weights.release());
  const float32 = () => "float32" as const;
  const plan = {
    ...kernels,
    linear: float32,
    gradient: float32,
    embedding: "float32",
  } as const;
  const rope = ropeTables(first, headDim, POSITIONS);
  const tables = { read: (name: string) => name === "cos" ? rope.cos : rope.sin };
  const session = made.use(await weights.session(lower(attention(shape), tables, plan)));
  const cache = [1, numKvHeads, POSITIONS, headDim];
  const keys = made.use(await zeros(device, floats, cache));
  const values = made.use(await zeros(device, floats, cache));
  const width = numHeads * headDim;
  const out = new Float32Array(ALL * width);
  const int32 = (value: number) => made.use(device.tensor("int32", [1], Int32Array.of(value)));
  const grid = made.use(device.tensor("int64", [2], BigInt64Array.of(1n, BigInt(TOKENS))));
  for (let end = TOKENS; end <= ALL; end += TOKENS) {
    const part = out.subarray((end - TOKENS) * width, end * width);
    const qkv = made.use(numbers(device, floats, [TOKENS, width + 2 * numKvHeads * headDim], end));
    const lengths = int32(end - 1);
    const given = { qkv, grid, keys, values, lengths, total: int32(total(end, TOKENS)) };
    const attended = made.use(device.tensor("float32", [TOKENS, width], part));
    const written = { attended, "keys.out": keys, "values.out": values };
    await made.use(session.bind(given, written)).run();
  }
  return out;
}

/** Attention alone, as a decoder has it. */
function attention({ numHeads: heads, numKvHeads: kvHeads, headDim, ropes: [rope] }: Shape): Graph {
  const graph = new GraphBuilder();
  const cache = ["batch", kvHeads, "capacity", headDim];
  const table = (name: string) => graph.parameter(name, [POSITIONS, ropeWidth(rope, headDim)]);
  const args = {
    qkv: graph.input("qkv", "float32", ["tokens", (heads + 2 * kvHeads) * headDim]),
    grid: graph.input("grid", "int64", [2]),
    keys: graph.state("keys", "float32", cache),
    values: graph.state("values", "float32", cache),
    lengths: graph.input("lengths", "int32", ["batch"]),
    total: graph.input("total", "int32", [1]),
    ...{ cos: table("cos"), sin: table("sin"), interleaved: rope.interleaved },
    ...{ heads, kvHeads, headDim, scale: headDim ** -0.5, window: undefined },
  };
  return graph.finish([graph.add("attention", args, "attended")]);
}

async function zeros(
  device: Device,
  floats: FloatType,
  shape: readonly number[],
): Promise<Tensor> {
  using from = device.tensor(floats, shape);
  const to = await device.allocate(floats, shape);
  await device.copy([{ from, to }]);
  return to;
}

/** Numbers in -1 … 1 that a seed gives. */
function numbers(
  device: Device,
  floats: FloatType,
  shape: readonly number[],
  seed: number,
): Tensor {
  const count = shape.reduce((count, size) => count * size, 1);
  const data = Float32Array.from(
    { length: count },
    (_, i) => philox([i, seed, 0, 0], [0, 0]) / 2 ** 31 - 1,
  );
  return device.tensor(floats, shape, encodeFloats(floats, data) as never);
}
