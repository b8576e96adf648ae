/**
 * How rows of the embedding are taken, by device: as they are, or rounded to 8 bits in blocks of 32,
 * which is exact for a Q8_0 checkpoint. WebGPU gathers no int8, but has blocks of uint8 around 128.
 */
import type { Value } from "../ops.ts";
import { around128, quantiseRows } from "../quantise.ts";
import { joinedRows } from "./kernels.ts";
import { together } from "./lazy.ts";
import type { LoweringContext, LoweringPlan } from "./lowering_context.ts";
import { MICROSOFT } from "./onnx.ts";

const BLOCK = 32;

/** Emits `out[t] = table[ids[t]]`. */
export function emitEmbedding(
  context: LoweringContext,
  table: Value,
  ids: string,
  out: string,
): void {
  const { device = "cpu", embedding } = context.plan;
  if (embedding === "int8") return BLOCKS[device](context, table, ids, out);
  context.writer.node("Gather", [context.parameter(table), ids], out);
}

const BLOCKS: {
  readonly [K in NonNullable<LoweringPlan["device"]>]: typeof emitEmbedding;
} = {
  cpu(context, table, ids, out) {
    const { writer } = context;
    const made = roundRows(context, table);
    const q = context.weight(
      `${table.name}:q8`,
      "int8",
      sizes(table),
      async () => (await made()).q,
    );
    writer.node("Gather", [q, ids], `${out}.q`);
    writer.node("Gather", [scalesOf(context, table, made), ids], `${out}.scales`);
    writer.node("DequantizeLinear", [`${out}.q`, `${out}.scales`], out, {
      attributes: { axis: 1, block_size: BLOCK },
    });
  },
  webgpu: gatherBlocks,
  cuda: gatherBlocks,
};

function gatherBlocks(context: LoweringContext, table: Value, ids: string, out: string): void {
  const made = roundRows(context, table);
  const raised = async () => around128((await made()).q);
  const q = context.weight(`${table.name}:q8u`, "uint8", sizes(table), raised);
  context.writer.node("GatherBlockQuantized", [q, ids, scalesOf(context, table, made)], out, {
    domain: MICROSOFT,
    attributes: { bits: 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1 },
  });
}

function roundRows(context: LoweringContext, table: Value) {
  const [, width] = sizes(table);
  return together(() => quantiseRows(joinedRows(context, [table], width), BLOCK));
}

function scalesOf(
  context: LoweringContext,
  table: Value,
  made: ReturnType<typeof roundRows>,
): string {
  const [rows, width] = sizes(table);
  const shape = [rows, width / BLOCK];
  return context.floatWeight(`${table.name}:q8.scales`, shape, async () => (await made()).scales);
}

function sizes({ shape }: Value): number[] {
  return shape.map(Number);
}
