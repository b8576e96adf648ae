/**
 * The stored weight types turned into float32: plain ones (F32, F16, BF16) and GGML's quantised
 * blocks, as ggml's `block_*` structs lay them out. It knows bytes and counts; no file, no name,
 * no shape.
 */

import type { GgmlType } from "../checkpoint.ts";

/** Elements and bytes of one block of a type; plain types have blocks of one element. */
export interface BlockLayout {
  readonly elements: number;
  readonly bytes: number;
}

export const BLOCK_LAYOUTS: Readonly<Record<GgmlType, BlockLayout>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
};

/** Reads all blocks of `bytes` into `out`, a whole loop for each type: a call a block costs half the speed. */
type BlocksReader = (bytes: Uint8Array, out: Float32Array) => void;

/** Every float16 as a float32, by its bits. */
const HALF = new Float32Array(
  new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer),
);

const READERS: Readonly<Record<GgmlType, BlocksReader>> = {
  F32: copyFloats,
  F16: widenHalf,
  BF16: widenBfloat,
  Q4_0: readQ40,
  Q4_1: readQ41,
  Q5_0: readQ50,
  Q5_1: readQ51,
  Q8_0: readQ80,
  Q4_K: readQ4K,
  Q5_K: readQ5K,
  Q6_K: readQ6K,
};

/** The bytes that `elements` of `type` take. The last block must be full. */
export function storedBytes(type: GgmlType, elements: number): number {
  const layout = BLOCK_LAYOUTS[type];
  if (elements % layout.elements !== 0) {
    throw new RangeError(
      `Cannot store ${elements} elements as ${type}: a block holds ${layout.elements}`,
    );
  }
  return elements / layout.elements * layout.bytes;
}

/**
 * The stored values as float32, in `into` or newly allocated. Products and sums are rounded to
 * float32 one by one, so that the result is bit-equal to ggml's reference.
 *
 * @throws {RangeError} where `bytes` is no whole number of blocks, or `into` has not their length
 */
export function dequantise(
  type: GgmlType,
  bytes: Uint8Array,
  into?: Float32Array,
): Float32Array {
  const layout = BLOCK_LAYOUTS[type];
  if (bytes.length % layout.bytes !== 0) {
    throw new RangeError(
      `Cannot dequantise ${bytes.length} bytes as ${type}: a block takes ${layout.bytes}`,
    );
  }
  const elements = bytes.length / layout.bytes * layout.elements;
  if (into !== undefined && into.length !== elements) {
    throw new RangeError(`Cannot dequantise ${elements} elements into ${into.length}`);
  }
  const out = into ?? new Float32Array(elements);
  READERS[type](bytes, out);
  return out;
}

function copyFloats(bytes: Uint8Array, out: Float32Array): void {
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
}

function widenHalf(bytes: Uint8Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = half(bytes, 2 * i);
}

function widenBfloat(bytes: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) bits[i] = (bytes[2 * i] | bytes[2 * i + 1] << 8) << 16;
}

/** The float16 at a place. */
export function half(bytes: Uint8Array, at: number): number {
  return HALF[bytes[at] | bytes[at + 1] << 8];
}

function signedOf(bytes: Uint8Array): Int8Array {
  return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** half d; 16 bytes: value i in the low nibble of byte i, value i + 16 in its high one. */
function readQ40(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 18, to += 32) {
    const d = half(bytes, from);
    for (let i = 0; i < 16; i++) {
      const q = bytes[from + 2 + i];
      out[to + i] = d * ((q & 15) - 8);
      out[to + i + 16] = d * ((q >> 4) - 8);
    }
  }
}

/** half d, half m; nibbles as in Q4_0. */
function readQ41(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 20, to += 32) {
    const d = half(bytes, from);
    const m = half(bytes, from + 2);
    for (let i = 0; i < 16; i++) {
      const q = bytes[from + 4 + i];
      out[to + i] = Math.fround(d * (q & 15)) + m;
      out[to + i + 16] = Math.fround(d * (q >> 4)) + m;
    }
  }
}

/** half d; 32 fifth bits; nibbles as in Q4_0. */
function readQ50(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 22, to += 32) {
    const d = half(bytes, from);
    const low = bytes[from + 2] | bytes[from + 3] << 8;
    const high = bytes[from + 4] | bytes[from + 5] << 8;
    for (let i = 0; i < 16; i++) {
      const q = bytes[from + 6 + i];
      out[to + i] = d * ((q & 15 | (low >> i & 1) << 4) - 16);
      out[to + i + 16] = d * ((q >> 4 | (high >> i & 1) << 4) - 16);
    }
  }
}

/** half d, half m; 32 fifth bits; nibbles as in Q4_0. */
function readQ51(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 24, to += 32) {
    const d = half(bytes, from);
    const m = half(bytes, from + 2);
    const low = bytes[from + 4] | bytes[from + 5] << 8;
    const high = bytes[from + 6] | bytes[from + 7] << 8;
    for (let i = 0; i < 16; i++) {
      const q = bytes[from + 8 + i];
      out[to + i] = Math.fround(d * (q & 15 | (low >> i & 1) << 4)) + m;
      out[to + i + 16] = Math.fround(d * (q >> 4 | (high >> i & 1) << 4)) + m;
    }
  }
}

/** half d; 32 signed bytes. */
function readQ80(bytes: Uint8Array, out: Float32Array): void {
  const signed = signedOf(bytes);
  for (let [from, to] = [0, 0]; from < bytes.length; from += 34, to += 32) {
    const d = half(bytes, from);
    for (let i = 0; i < 32; i++) out[to + i] = d * signed[from + 2 + i];
  }
}

/** The six-bit scale of sub-block `j` of a K block; its minimum lies in the same 12 bytes. */
function scaleOfK(bytes: Uint8Array, scales: number, j: number): number {
  if (j < 4) return bytes[scales + j] & 63;
  return bytes[scales + j + 4] & 15 | bytes[scales + j - 4] >> 6 << 4;
}

function minimumOfK(bytes: Uint8Array, scales: number, j: number): number {
  if (j < 4) return bytes[scales + j + 4] & 63;
  return bytes[scales + j + 4] >> 4 | bytes[scales + j] >> 6 << 4;
}

/** half d, half dmin; 8 six-bit scales and minima in 12 bytes; 8 × 32 nibbles, two rows a byte. */
function readQ4K(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 144, to += 256) {
    const d = half(bytes, from);
    const dmin = half(bytes, from + 2);
    for (let j = 0; j < 8; j += 2) {
      const scale = Math.fround(d * scaleOfK(bytes, from + 4, j));
      const minimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j));
      const nextScale = Math.fround(d * scaleOfK(bytes, from + 4, j + 1));
      const nextMinimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j + 1));
      const nibbles = from + 16 + j * 16;
      const at = to + j * 32;
      for (let i = 0; i < 32; i++) {
        const q = bytes[nibbles + i];
        out[at + i] = Math.fround(scale * (q & 15)) - minimum;
        out[at + i + 32] = Math.fround(nextScale * (q >> 4)) - nextMinimum;
      }
    }
  }
}

/** As Q4_K, with 32 bytes before the nibbles: bit j of byte i is the fifth bit of value 32j + i. */
function readQ5K(bytes: Uint8Array, out: Float32Array): void {
  for (let [from, to] = [0, 0]; from < bytes.length; from += 176, to += 256) {
    const d = half(bytes, from);
    const dmin = half(bytes, from + 2);
    for (let j = 0; j < 8; j += 2) {
      const scale = Math.fround(d * scaleOfK(bytes, from + 4, j));
      const minimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j));
      const nextScale = Math.fround(d * scaleOfK(bytes, from + 4, j + 1));
      const nextMinimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j + 1));
      const nibbles = from + 48 + j * 16;
      const at = to + j * 32;
      for (let i = 0; i < 32; i++) {
        const q = bytes[nibbles + i];
        const fifths = bytes[from + 16 + i] >> j;
        out[at + i] = Math.fround(scale * (q & 15 | (fifths & 1) << 4)) - minimum;
        out[at + i + 32] = Math.fround(nextScale * (q >> 4 | (fifths & 2) << 3)) - nextMinimum;
      }
    }
  }
}

/** 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, half d. */
function readQ6K(bytes: Uint8Array, out: Float32Array): void {
  const signed = signedOf(bytes);
  for (let [from, to] = [0, 0]; from < bytes.length; from += 210, to += 256) {
    const d = half(bytes, from + 208);
    // Sixteen values of four rows of 32 at a time: they share bytes.
    for (let part = 0; part < 4; part++) {
      const [block, first] = [part >> 1, (part & 1) * 16];
      const low = from + block * 64 + first;
      const high = from + 128 + block * 32 + first;
      const scales = from + 192 + block * 8 + (part & 1);
      const at = to + block * 128 + first;
      const scale0 = Math.fround(d * signed[scales]);
      const scale1 = Math.fround(d * signed[scales + 2]);
      const scale2 = Math.fround(d * signed[scales + 4]);
      const scale3 = Math.fround(d * signed[scales + 6]);
      for (let i = 0; i < 16; i++) {
        const [a, b, pairs] = [bytes[low + i], bytes[low + i + 32], bytes[high + i]];
        out[at + i] = scale0 * ((a & 15 | (pairs & 3) << 4) - 32);
        out[at + i + 32] = scale1 * ((b & 15 | (pairs & 12) << 2) - 32);
        out[at + i + 64] = scale2 * ((a >> 4 | pairs & 48) - 32);
        out[at + i + 96] = scale3 * ((b >> 4 | (pairs & 192) >> 2) - 32);
      }
    }
  }
}
