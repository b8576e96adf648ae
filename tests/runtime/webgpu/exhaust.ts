/** Makes the process's WebGPU device unusable, as too little memory does. */
import { OnnxWriter } from "../../../src/graph/lowering/onnx.ts";
import type { Device } from "../../../src/runtime/device.ts";

/** Numbers in a buffer that the device in software has no room for. */
const TOO_MANY = 2 ** 29;

/** A run whose inner buffer finds no memory: rejects as the device explains it. */
export async function exhaust(device: Device): Promise<void> {
  const writer = new OnnxWriter();
  const x = writer.input("x", "float32", [1]);
  const shape = writer.constant("shape", "int64", [2], BigInt64Array.of(BigInt(TOO_MANY / 4), 4n));
  const axes = writer.constant("axes", "int64", [1], BigInt64Array.of(1n));
  writer.node("Expand", [x, shape], "large");
  writer.node("Add", ["large", x], "larger");
  writer.node("ReduceMax", ["larger", axes], "rows", { attributes: { keepdims: 0 } });
  writer.node("ReduceMax", ["rows"], "y", { attributes: { keepdims: 0 } });
  writer.output("y", "float32", []);
  using session = await device.session(writer.finish("too large"));
  using given = device.tensor("float32", [1]);
  using made = device.tensor("float32", []);
  using binding = session.bind({ x: given }, { y: made });
  await binding.run();
}
