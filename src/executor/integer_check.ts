/**
 * Whether this processor's u8 × s8 products are exact, as W8A8 needs them. Without VNNI, kernels
 * add pairs of products in 16 bits and saturate (onnxruntime issue 12088); u8 × u8 is computed in 32
 * bits then, a sixth slower and exact. The check multiplies extreme values.
 */
import type { IntegerType } from "../graph/lowering/lowering_context.ts";
import { around128 } from "../graph/quantise.ts";
import { MICROSOFT, OnnxWriter } from "../graph/lowering/onnx.ts";
import type { Device } from "../runtime/device.ts";

const [ROWS, INNER, COLUMNS] = [4, 64, 32];
const [LARGEST, ZERO, WEIGHT] = [255, 128, 127];

/** How W8A8 keeps its weights on this processor: int8 where that is exact, which is faster. */
export async function integersOf(device: Device): Promise<IntegerType> {
  return await productsAreExact(device, "int8") ? "int8" : "uint8";
}

/** Sums 64 products of 255 - 128 and ±127 with the operator that W8A8 uses. */
export async function productsAreExact(device: Device, integers: IntegerType): Promise<boolean> {
  using session = await device.session(productModel(integers));
  using x = device.tensor("uint8", [ROWS, INNER], new Uint8Array(ROWS * INNER).fill(LARGEST));
  using y = device.tensor("float32", [ROWS, COLUMNS]);
  using binding = session.bind({ x }, { y });
  binding.runSync();
  return y.data instanceof Float32Array && areExact(y.data);
}

/** Whether sums of 64 products of 255 - 128 with ±127 (alternating by column) are exact. */
export function areExact(products: Float32Array): boolean {
  const sum = (LARGEST - ZERO) * WEIGHT * INNER;
  return products.every((value, i) => value === (i % 2 === 0 ? sum : -sum));
}

function productModel(integers: IntegerType): Uint8Array {
  const writer = new OnnxWriter();
  const float = (name: string, shape: number[], count: number) =>
    writer.constant(name, "float32", shape, new Float32Array(count).fill(1));
  const weights = Int8Array.from(
    { length: INNER * COLUMNS },
    (_, i) => i % COLUMNS % 2 === 0 ? WEIGHT : -WEIGHT,
  );
  const zero = writer.constant("zero", "uint8", [], Uint8Array.of(ZERO));
  const inputs = [
    writer.input("x", "uint8", [ROWS, INNER]),
    writer.constant(
      "w",
      integers,
      [INNER, COLUMNS],
      integers === "int8" ? weights : around128(weights),
    ),
    float("scale", [], 1),
    float("scales", [COLUMNS], COLUMNS),
    zero,
    ...integers === "int8" ? [] : [zero],
  ];
  writer.node("MatMulIntegerToFloat", inputs, "y", { domain: MICROSOFT });
  writer.output("y", "float32", [ROWS, COLUMNS]);
  return writer.finish("extremes");
}
