/**
 * Numbers of 16 bits, which JavaScript has as raw bits: float16 (IEEE 754 binary16) and bfloat16, the
 * first half of a float32. Both round to the nearest, ties to even.
 */

/** A type of floating-point numbers that kernels compute in. */
export type FloatType = "float32" | "float16" | "bfloat16";

/** Bytes of one number. */
export function bytesPerFloat(type: FloatType): number {
  return type === "float32" ? 4 : 2;
}

/** float32 as it is, or the bits of the 16-bit type. */
export function encodeFloats(
  type: FloatType,
  data: Float32Array,
): Float32Array | Uint16Array<ArrayBuffer> {
  switch (type) {
    case "float32":
      return data;
    case "float16":
      return new Uint16Array(new Float16Array(data).buffer);
    case "bfloat16":
      return upperHalves(data);
  }
}

function upperHalves(data: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const out = new Uint16Array(data.length);
  for (let i = 0; i < out.length; i++) {
    const value = bits[i];
    const isNan = (value & 0x7fffffff) > 0x7f800000;
    // rounding a NaN up could make it an infinity
    out[i] = isNan ? value >>> 16 | 0x40 : value + 0x7fff + (value >>> 16 & 1) >>> 16;
  }
  return out;
}
