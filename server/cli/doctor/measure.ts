/**
 * How fast this machine's processor reads memory and multiplies matrices, through the runtime that
 * serves: the best of the runs that fit a few seconds. Other work on the machine lowers all three.
 */
import type { IntegerType } from "../../../src/graph/lowering/lowering_context.ts";
import { MICROSOFT, OnnxWriter } from "../../../src/graph/lowering/onnx.ts";
import type { Device, Tensor } from "../../../src/runtime/device.ts";

/** What was measured. */
export interface Rates {
  /** Bytes a second that all cores together read from memory. */
  readonly bandwidth: number;
  /** Operations a second (a multiplication and an addition are two) of a product in float32. */
  readonly float32: number;
  /** The same of a product in 8-bit integers, as W8A8 computes it here. */
  readonly int8: number;
}

/** Milliseconds of each measure; making its model takes as long again at most. */
const MILLISECONDS = 1500;
/** Beyond every cache. */
const READ_BYTES = 256 * 2 ** 20;
const ROW = 4096;
const [ROWS, INNER, COLUMNS] = [256, 2048, 2048];

/** Measures for at most ten seconds, in at most half a gigabyte. */
export async function measure(device: Device, integers: IntegerType): Promise<Rates> {
  const rows = Math.floor(Math.min(READ_BYTES, freeMemory() / 4) / 4 / ROW);
  const seconds = [
    await reading(device, rows),
    await multiplying(device, floatModel()),
    await multiplying(device, integerModel(integers), "uint8"),
  ] as const;
  const operations = 2 * ROWS * INNER * COLUMNS;
  return {
    bandwidth: 4 * rows * ROW / seconds[0],
    float32: operations / seconds[1],
    int8: operations / seconds[2],
  };
}

function freeMemory(): number {
  return Deno.systemMemoryInfo().available;
}

async function reading(device: Device, rows: number): Promise<number> {
  using x = device.tensor("float32", [rows, ROW]);
  // untouched pages are all one page of zeros
  (x.data as Float32Array).fill(1);
  using y = device.tensor("float32", [rows, 1]);
  return await best(device, sumModel(rows), x, y);
}

async function multiplying(
  device: Device,
  model: Uint8Array,
  dtype: "float32" | "uint8" = "float32",
): Promise<number> {
  using x = device.tensor(dtype, [ROWS, INNER]);
  (x.data as Float32Array | Uint8Array).fill(1);
  using y = device.tensor("float32", [ROWS, COLUMNS]);
  return await best(device, model, x, y);
}

/** Seconds of the fastest run. */
async function best(device: Device, model: Uint8Array, x: Tensor, y: Tensor): Promise<number> {
  using session = await device.session(model);
  using binding = session.bind({ x }, { y });
  await binding.run();
  const end = performance.now() + MILLISECONDS;
  let least = Infinity;
  do {
    const start = performance.now();
    await binding.run();
    least = Math.min(least, performance.now() - start);
  } while (performance.now() < end);
  return least / 1000;
}

function sumModel(rows: number): Uint8Array {
  const writer = new OnnxWriter();
  const axes = writer.constant("axes", "int64", [1], BigInt64Array.of(1n));
  writer.node("ReduceSum", [writer.input("x", "float32", [rows, ROW]), axes], "y");
  writer.output("y", "float32", [rows, 1]);
  return writer.finish("sums");
}

function floatModel(): Uint8Array {
  const writer = new OnnxWriter();
  const weights = new Float32Array(INNER * COLUMNS).fill(1 / INNER);
  const inputs = [
    writer.input("x", "float32", [ROWS, INNER]),
    writer.constant("w", "float32", [INNER, COLUMNS], weights),
  ];
  writer.node("MatMul", inputs, "y");
  writer.output("y", "float32", [ROWS, COLUMNS]);
  return writer.finish("product");
}

function integerModel(integers: IntegerType): Uint8Array {
  const writer = new OnnxWriter();
  const count = INNER * COLUMNS;
  const zero = writer.constant("zero", "uint8", [], Uint8Array.of(128));
  const weights = integers === "int8" ? new Int8Array(count).fill(1) : new Uint8Array(count);
  const inputs = [
    writer.input("x", "uint8", [ROWS, INNER]),
    writer.constant("w", integers, [INNER, COLUMNS], weights),
    writer.constant("scale", "float32", [], Float32Array.of(1)),
    writer.constant("scales", "float32", [COLUMNS], new Float32Array(COLUMNS).fill(1)),
    zero,
    ...integers === "int8" ? [] : [zero],
  ];
  writer.node("MatMulIntegerToFloat", inputs, "y", { domain: MICROSOFT });
  writer.output("y", "float32", [ROWS, COLUMNS]);
  return writer.finish("integers");
}
