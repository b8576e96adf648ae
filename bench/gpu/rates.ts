/** What a device itself does at best: bytes that it moves and products that it computes a second. */
import { OnnxWriter } from "../../src/graph/lowering/onnx.ts";
import type { Device, Tensor } from "../../src/runtime/device.ts";
import { encodeFloats, type FloatType } from "../../src/util/floats.ts";

export interface DeviceRates {
  /** Bytes a second, read and written together. */
  readonly bandwidth: number;
  /** Operations a second of a product of large matrices in the activations' type. */
  readonly products: number;
}

/** Runs of each measure: the fastest counts. */
const RUNS = 5;

/** @param size how large what is measured is: 1 for a GPU, less for a device in software */
export async function measureDevice(
  device: Device,
  type: FloatType,
  size: number,
): Promise<DeviceRates> {
  const numbers = Math.floor(2 ** 27 * size);
  const side = Math.max(64, Math.floor(4096 * Math.sqrt(size) / 64) * 64);
  return {
    bandwidth: 2 * 4 * numbers / await moving(device, numbers),
    products: 2 * side ** 3 / await multiplying(device, side, type),
  };
}

async function moving(device: Device, numbers: number): Promise<number> {
  const writer = new OnnxWriter();
  writer.node("Neg", [writer.input("x", "float32", [numbers])], "y");
  writer.output("y", "float32", [numbers]);
  using x = await device.allocate("float32", [numbers]);
  using y = await device.allocate("float32", [numbers]);
  await device.upload(x, new Float32Array(numbers));
  return await best(device, writer.finish("moving"), { x }, y);
}

async function multiplying(device: Device, side: number, type: FloatType): Promise<number> {
  const writer = new OnnxWriter();
  const [a, b] = ["a", "b"].map((name) => writer.input(name, type, [side, side]));
  writer.node("MatMul", [a, b], "y");
  writer.output("y", type, [side, side]);
  using left = await device.allocate(type, [side, side]);
  using right = await device.allocate(type, [side, side]);
  using y = await device.allocate(type, [side, side]);
  const ones = new Float32Array(side * side).fill(1 / side);
  const data = encodeFloats(type, ones);
  for (const to of [left, right]) await device.upload(to, data);
  return await best(device, writer.finish("product"), { a: left, b: right }, y);
}

/** Seconds of the fastest run, the reading of one number included, without which it is not done. */
async function best(
  device: Device,
  model: Uint8Array,
  inputs: Readonly<Record<string, Tensor>>,
  y: Tensor,
): Promise<number> {
  using session = await device.session(model);
  using binding = session.bind(inputs, { y });
  const width = y.dtype === "float32" ? 4 : 8;
  using end = device.view(y, 0, [width]);
  let least = Infinity;
  for (let run = 0; run <= RUNS; run++) {
    const start = performance.now();
    await binding.run();
    await device.download(end);
    if (run > 0) least = Math.min(least, performance.now() - start);
  }
  return least / 1000;
}
