/**
 * Linears over weights in blocks of integers, by MatMulNBits. Offsets of blocks, which the kernel's
 * own zero points, whole steps, cannot hold, lie in the CPU's packed form or in a small product with
 * the inputs' block sums. Trap: weights side by side may lie in blocks of different forms; each run
 * of one form is a product of its own.
 */
import type { BlockForm, StoredBlocks } from "../../util/blocks.ts";
import type { Value } from "../ops.ts";
import { joinBlocks, roundTo4Bits, roundTo8Bits } from "../quantise.ts";
import { together } from "./lazy.ts";
import type { LoweringContext, LoweringPlan } from "./lowering_context.ts";
import { MICROSOFT } from "./onnx.ts";

/** In which blocks a weight is served. */
type ChooseBlocks = (context: LoweringContext, weight: Value) => StoredBlocks;

/**
 * 8 bits, rounded from float32. Blocks of 128 are a twentieth fewer bytes; but activations are rounded
 * by block, too, and the KL divergence from float32 is a third larger (`bench/LOG.md`).
 */
export function eightBits(context: LoweringContext, weight: Value): StoredBlocks {
  const size = Number(weight.shape[1]) % 64 === 0 ? 64 : 32;
  const read = () => roundTo8Bits(context.parameters.read(weight.name), size);
  return { bits: 8, size, offsets: false, read };
}

/** The file's own 4 bits; any other weight is rounded to such. */
export function fourBits(context: LoweringContext, weight: Value): StoredBlocks {
  const stored = context.parameters.blocks?.(weight.name);
  if (stored?.bits === 4) return stored;
  const read = () => roundTo4Bits(context.parameters.read(weight.name), 32);
  return { bits: 4, size: 32, offsets: true, read };
}

/**
 * The file's own blocks; a weight that has none is rounded to 8 bits. So is one in blocks of 16 (Q6_K):
 * as they are they would be a half more bytes than their numbers, and the slowest to multiply.
 */
export function ownBlocks(context: LoweringContext, weight: Value): StoredBlocks {
  const stored = context.parameters.blocks?.(weight.name);
  return stored !== undefined && stored.size >= 32 ? stored : eightBits(context, weight);
}

/** Emits a linear without its bias. */
export function emitBlocks(
  context: LoweringContext,
  { x, weights }: { readonly x: Value; readonly weights: readonly Value[] },
  out: string,
  choose: ChooseBlocks,
): void {
  const runs = runsOf(weights.map((weight) => ({ weight, blocks: choose(context, weight) })));
  const [only] = runs;
  if (only !== undefined && runs.length === 1) return emitRun(context, x, only, out);
  const parts = runs.map((run, i) => {
    emitRun(context, x, run, `${out}.${i}`);
    return `${out}.${i}`;
  });
  context.writer.node("Concat", parts, out, { attributes: { axis: 1 } });
}

interface Part {
  readonly weight: Value;
  readonly blocks: StoredBlocks;
}

/** Neighbours of one form. */
function runsOf(parts: readonly Part[]): Part[][] {
  const runs: Part[][] = [];
  for (const part of parts) {
    const last = runs.at(-1);
    const before = last?.[0]?.blocks;
    if (before !== undefined && sameForm(before, part.blocks)) last?.push(part);
    else runs.push([part]);
  }
  return runs;
}

function sameForm(a: BlockForm, b: BlockForm): boolean {
  return a.bits === b.bits && a.size === b.size && a.offsets === b.offsets;
}

function emitRun(context: LoweringContext, x: Value, run: readonly Part[], out: string): void {
  const [first] = run;
  if (first === undefined) return;
  const { bits, size, offsets } = first.blocks;
  const inputs = Number(x.shape[1]);
  const outputs = run.reduce((sum, { weight }) => sum + Number(weight.shape[0]), 0);
  const perRow = inputs / size;
  const within = offsets && context.plan.offsets === "with blocks";
  const names = run.map(({ weight }) => weight.name).join("|");
  const name = `${names}:b${bits}.${size}${within ? ".sums" : ""}`;
  const made = together(() => joinBlocks(run.map(({ blocks }) => blocks.read()), perRow));
  const packed = [outputs, perRow, size * bits / 8];
  const q = context.weight(name, "uint8", packed, async () => (await made()).q);
  const scales = [outputs * perRow];
  const s = context.floatWeight(`${name}.scales`, scales, async () => (await made()).scales);
  const source = context.name(x);
  const apart = offsets && !within;
  const product = apart ? `${out}.centred` : out;
  context.writer.node("MatMulNBits", [source, q, s], product, {
    domain: MICROSOFT,
    attributes: {
      K: inputs,
      N: outputs,
      bits,
      block_size: size,
      "accuracy_level": ACCURACY[context.plan.device ?? "cpu"],
    },
    ...(within ? { sums: { bits, size, outputs, perRow, make: made } } : {}),
  });
  if (!apart) return;
  const shape = [perRow, outputs];
  const offsetsOf = async () => (await made()).offsets;
  const m = context.floatWeight(`${name}.offsets`, shape, offsetsOf);
  context.writer.node("Gemm", [blockSums(context, source, inputs, size), m, product], out);
}

/**
 * 4 has activations rounded to 8 bits by block: on the CPU the kernel is 2 to 20 times slower without.
 * Elsewhere they stay as they are, which costs nothing where a step waits for its weights.
 */
const ACCURACY: { readonly [K in NonNullable<LoweringPlan["device"]>]: number } = {
  cpu: 4,
  webgpu: 0,
  cuda: 0,
};

/** Sums of a value's columns by block, [rows, blocks], once for all that read it. */
function blockSums(context: LoweringContext, source: string, inputs: number, size: number) {
  const sum = context.plan.device === undefined || context.plan.device === "cpu"
    ? sumByProduct
    : sumByReduction;
  return context.once(`${source}.sums.${size}`, (to) => sum(context, source, inputs, size, to));
}

/** The CPU's reduction of so few numbers is the slower one. */
function sumByProduct(
  context: LoweringContext,
  source: string,
  inputs: number,
  size: number,
  to: string,
): void {
  context.writer.node("MatMul", [source, blockIndicator(context, inputs, size)], to);
}

/** Reads nothing but the inputs: an indicator of 18,944 inputs would be 45 MB. */
function sumByReduction(
  context: LoweringContext,
  source: string,
  inputs: number,
  size: number,
  to: string,
): void {
  const { writer } = context;
  const blocks = context.int64(`shape.blocks.${inputs / size}.${size}`, [-1, inputs / size, size]);
  writer.node("Reshape", [source, blocks], `${to}.blocks`);
  writer.node("ReduceSum", [`${to}.blocks`, context.int64("int64.2", [2])], to, {
    attributes: { keepdims: 0 },
  });
}

/** [inputs, blocks] with ones where the row lies in the block: `x ·` this sums x by block. */
function blockIndicator(context: LoweringContext, inputs: number, block: number): string {
  const blocks = inputs / block;
  return context.floatWeight(`indicator.${inputs}.${block}`, [inputs, blocks], () => {
    const ones = new Float32Array(inputs * blocks);
    for (let i = 0; i < inputs; i++) ones[i * blocks + Math.floor(i / block)] = 1;
    return ones;
  });
}
