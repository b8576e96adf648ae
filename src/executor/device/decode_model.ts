/**
 * The decoder's graph for one token of each row, as a device records it: its small inputs are one
 * tensor, which crosses in one piece, and no shape is computed on the host.
 */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { OnnxWriter } from "../../graph/lowering/onnx.ts";
import { inputs } from "../../models/inputs.ts";

/** The input [4, batch] int32 that stands for `STEP_ROWS`; the total is its row's first number. */
export const STEP = "step";
/** Inputs of the decoder by their row in `STEP`. */
export const STEP_ROWS = { ids: 0, lengths: 1, total: 2, rows: 3 } as const;
export const STEP_SIZE = Object.keys(STEP_ROWS).length;

/** The model of `buildDecoder`'s graph with `STEP` for its small inputs. */
export function decodeModel(model: Uint8Array): Uint8Array {
  const whole = fromBinary(ModelProtoSchema, model);
  const head = fromBinary(ModelProtoSchema, headModel());
  const { graph } = whole;
  if (graph === undefined || head.graph === undefined) throw new TypeError("internal: no graph");
  const replaced = new Set<string>([inputs.grid, ...Object.keys(STEP_ROWS)]);
  graph.input = [...head.graph.input, ...graph.input.filter(({ name }) => !replaced.has(name))];
  graph.node = [...head.graph.node, ...graph.node];
  graph.initializer = [...head.graph.initializer, ...graph.initializer];
  return toBinary(ModelProtoSchema, whole);
}

/** Takes the tensor apart. */
function headModel(): Uint8Array {
  const writer = new OnnxWriter();
  writer.input(STEP, "int32", [STEP_SIZE, "batch"]);
  const row = (at: number, to: string) => {
    const index = writer.constant(`step.${at}`, "int32", [], Int32Array.of(at));
    writer.node("Gather", [STEP, index], to, { attributes: { axis: 0 } });
  };
  row(STEP_ROWS.ids, inputs.ids);
  row(STEP_ROWS.lengths, inputs.lengths);
  row(STEP_ROWS.rows, inputs.rows);
  row(STEP_ROWS.total, "step.totals");
  const first = writer.constant("step.first", "int32", [1], Int32Array.of(0));
  writer.node("Gather", ["step.totals", first], inputs.total, { attributes: { axis: 0 } });
  // as many rows as there are numbers, a token each
  writer.constant(inputs.grid, "int64", [2], BigInt64Array.of(-1n, 1n));
  return writer.finish("step");
}
