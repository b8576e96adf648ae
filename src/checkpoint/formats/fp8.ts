/**
 * Weights in F8_E4M3 (OCP's FP8 as PyTorch's `float8_e4m3fn`: 4 bits of exponent, 3 of fraction, no
 * infinities) with scales of the whole, of rows or of blocks.
 */
import { dequantise } from "./dequantise.ts";
import type { SafetensorsTensor } from "./safetensors.ts";

/** Every E4M3 number by its bits. */
const E4M3 = Float32Array.from({ length: 256 }, (_, bits) => {
  const [sign, exponent, fraction] = [bits >> 7, bits >> 3 & 15, bits & 7];
  if ((bits & 127) === 127) return NaN;
  const size = exponent === 0 ? fraction / 8 * 2 ** -6 : (1 + fraction / 8) * 2 ** (exponent - 7);
  return sign === 0 ? size : -size;
});

/**
 * float32 [count, in] of the bytes of a tensor's rows from `first` on, and the tensor's scales: one,
 * [out, 1], or one for each block [rows, columns].
 * @throws {TypeError} where the scales fit none of these
 */
export function readFp8(
  data: Uint8Array,
  first: number,
  [outputs = 0, inputs = 0]: readonly number[],
  { dtype, shape, data: scaleBytes }: SafetensorsTensor,
  block: readonly [number, number],
): Float32Array {
  if (dtype !== "F32" && dtype !== "BF16" && dtype !== "F16") {
    throw new TypeError(`Cannot read scales of FP8: their dtype is ${dtype}`);
  }
  const scales = dequantise(dtype, scaleBytes);
  const [rows, columns] = blockOf(shape, [outputs, inputs], block);
  const across = Math.ceil(inputs / columns);
  const values = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += inputs) {
    const scale = Math.floor((first + at / inputs) / rows) * across;
    for (let i = 0; i < inputs; i++) {
      values[at + i] = E4M3[data[at + i]] * scales[scale + Math.floor(i / columns)];
    }
  }
  return values;
}

/** Outputs and inputs that share a scale. */
function blockOf(
  scales: readonly number[],
  [outputs, inputs]: readonly [number, number],
  block: readonly [number, number],
): readonly [number, number] {
  const count = scales.reduce((product, size) => product * size, 1);
  if (count === 1) return [outputs, inputs];
  if (count === outputs && scales[0] === outputs) return [1, inputs];
  const wanted = [Math.ceil(outputs / block[0]), Math.ceil(inputs / block[1])];
  if (scales.length === 2 && scales[0] === wanted[0] && scales[1] === wanted[1]) return block;
  throw new TypeError(
    `Cannot read scales of FP8: their shape is [${scales}] for weights [${outputs}, ${inputs}], ` +
      `blocks of ${block[0]} by ${block[1]} want [${wanted}]`,
  );
}
