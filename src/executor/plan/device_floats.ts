/**
 * In which type a device computes activations: float16 on CUDA, whose attention knows no other, and
 * where WebGPU's shaders have it, else float32. What an adapter lacks shows when a small graph runs,
 * whatever system is below.
 */
import { OnnxWriter } from "../../graph/lowering/onnx.ts";
import { type Device, RuntimeError } from "../../runtime/device.ts";
import { encodeFloats, type FloatType } from "../../util/floats.ts";
import type { ServingDtype } from "./serving_plan.ts";

const WIDTH = 64;

/**
 * The type of activations, keys, values and cores.
 * @throws {RangeError} where float16 is asked for by name and is not there, or float32 on CUDA
 */
export async function floatsOf(device: Device, dtype: ServingDtype): Promise<FloatType> {
  if (device.name === "cuda") {
    if (dtype !== "fp32") return "float16";
    throw new RangeError(
      "Cannot serve fp32 on cuda: its attention computes in float16, pass --dtype fp16",
    );
  }
  if (device.name === "cpu" && dtype === "fp16") {
    throw new RangeError("Cannot serve in fp16: the CPU has no float16 kernels; pass --dtype int8");
  }
  if (device.name === "cpu" || dtype === "fp32") return "float32";
  if (await hasFloat16(device)) return "float16";
  if (dtype !== "fp16") return "float32";
  throw new RangeError(
    `Cannot serve fp16 on ${device.name}: the device does not compute in float16 ` +
      "(WebGPU's shader-f16), pass --dtype fp32, int8, int4 or file",
  );
}

/** Whether a product in float16 runs, and is right. */
async function hasFloat16(device: Device): Promise<boolean> {
  try {
    using session = await device.session(probe());
    const ones = encodeFloats("float16", new Float32Array(WIDTH).fill(1)) as Uint16Array;
    using x = device.tensor("float16", [1, WIDTH], ones);
    using y = device.tensor("float16", [1, WIDTH]);
    using binding = session.bind({ x }, { y });
    await binding.run();
    const [wanted] = encodeFloats("float16", Float32Array.of(WIDTH));
    return (y.data as Uint16Array).every((bits) => bits === wanted);
  } catch (error) {
    if (error instanceof RuntimeError) return false;
    throw error;
  }
}

/** y = x · W, W all ones. */
function probe(): Uint8Array {
  const writer = new OnnxWriter();
  const ones = (count: number) =>
    encodeFloats("float16", new Float32Array(count).fill(1)) as Uint16Array<ArrayBuffer>;
  writer.input("x", "float16", [1, WIDTH]);
  const w = writer.constant("w", "float16", [WIDTH, WIDTH], ones(WIDTH * WIDTH));
  writer.node("MatMul", ["x", w], "y");
  writer.output("y", "float16", [1, WIDTH]);
  return writer.finish("float16");
}
