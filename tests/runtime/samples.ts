/** Values of every element type, and the reading of floats; no test. */
import { assert } from "@std/assert";
import type { DType, Tensor, TypedArray } from "../../src/runtime/device.ts";

export const SAMPLES: Readonly<Record<DType, TypedArray>> = {
  float32: new Float32Array([1.5, -2, 3e8]),
  float16: new Uint16Array([0x3c00, 0xc000, 0x7bff]),
  bfloat16: new Uint16Array([0x3fc0, 0xc000, 0x4d8f]),
  int64: new BigInt64Array([1n, -2n, 2n ** 62n]),
  int32: new Int32Array([1, -2, 2 ** 30]),
  int8: new Int8Array([1, -2, 127]),
  uint8: new Uint8Array([1, 2, 255]),
  bool: new Uint8Array([1, 0, 1]),
};

export function floats(tensor: Tensor): Float32Array {
  assert(tensor.data instanceof Float32Array);
  return tensor.data;
}
