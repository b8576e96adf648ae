/**
 * The stored weight types turned into float32: plain ones (F32, F16, BF16) and GGML's quantised
 * blocks, as ggml's `block_*` structs lay them out. It knows bytes and counts; no file, no name,
 * no shape.
 */

import type { WeightType } from "../checkpoint.ts";

/** Elements and bytes of one block of a type; plain types have blocks of one element. */
export interface BlockLayout {
  readonly elements: number;
  readonly bytes: number;
}

export const BLOCK_LAYOUTS: Readonly<Record<WeightType, BlockLayout>> = {
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

type BlockReader = (bytes: Uint8Array, from: number, out: Float32Array, to: number) => void;

/** Every float16 as a float32, by its bits. */
const HALF = new Float32Array(
  new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer),
);

const BLOCK_READERS: Readonly<Record<Exclude<WeightType, "F32" | "F16" | "BF16">, BlockReader>> = {
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
export function storedBytes(type: WeightType, elements: number): number {
  const layout = BLOCK_LAYOUTS[type];
  if (elements % layout.elements !== 0) {
    throw new RangeError(
      `Cannot store ${elements} elements as ${type}: a block holds ${layout.elements}`,
    );
  }
  return elements / layout.elements * layout.bytes;
}

/**
 * The stored values as float32, newly allocated. Products and sums are rounded to float32 one by
 * one, so that the result is bit-equal to ggml's reference.
 *
 * @throws {RangeError} where `bytes` is no whole number of blocks
 */
export function dequantise(type: WeightType, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const layout = BLOCK_LAYOUTS[type];
  if (bytes.length % layout.bytes !== 0) {
    throw new RangeError(
      `Cannot dequantise ${bytes.length} bytes as ${type}: a block takes ${layout.bytes}`,
    );
  }
  if (type === "F32") return new Float32Array(bytes.slice().buffer);
  const out = new Float32Array(bytes.length / layout.bytes * layout.elements);
  if (type === "F16") widenHalf(bytes, out);
  else if (type === "BF16") widenBfloat(bytes, out);
  else readBlocks(BLOCK_READERS[type], layout, bytes, out);
  return out;
}

function readBlocks(
  read: BlockReader,
  layout: BlockLayout,
  bytes: Uint8Array,
  out: Float32Array,
): void {
  let to = 0;
  for (let from = 0; from < bytes.length; from += layout.bytes) {
    read(bytes, from, out, to);
    to += layout.elements;
  }
}

function widenHalf(bytes: Uint8Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = half(bytes, 2 * i);
}

function widenBfloat(bytes: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) {
    bits[i] = (byte(bytes, 2 * i) | byte(bytes, 2 * i + 1) << 8) << 16;
  }
}

// Reads past the end cannot happen here (whole blocks were checked); `?? 0` would cost time in
// these loops, hence the casts.
function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}

function half(bytes: Uint8Array, at: number): number {
  return HALF[byte(bytes, at) | byte(bytes, at + 1) << 8] as number;
}

function signed(value: number): number {
  return value << 24 >> 24;
}

/** half d; 16 bytes: value i in the low nibble of byte i, value i + 16 in its high one. */
function readQ40(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  for (let i = 0; i < 16; i++) {
    const q = byte(bytes, from + 2 + i);
    out[to + i] = d * ((q & 15) - 8);
    out[to + i + 16] = d * ((q >> 4) - 8);
  }
}

/** half d, half m; nibbles as in Q4_0. */
function readQ41(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  const m = half(bytes, from + 2);
  for (let i = 0; i < 16; i++) {
    const q = byte(bytes, from + 4 + i);
    out[to + i] = Math.fround(d * (q & 15)) + m;
    out[to + i + 16] = Math.fround(d * (q >> 4)) + m;
  }
}

/** half d; 32 fifth bits; nibbles as in Q4_0. */
function readQ50(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  const high = word(bytes, from + 2);
  for (let i = 0; i < 16; i++) {
    const q = byte(bytes, from + 6 + i);
    out[to + i] = d * (((q & 15) | (high >>> i & 1) << 4) - 16);
    out[to + i + 16] = d * ((q >> 4 | (high >>> (i + 16) & 1) << 4) - 16);
  }
}

/** half d, half m; 32 fifth bits; nibbles as in Q4_0. */
function readQ51(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  const m = half(bytes, from + 2);
  const high = word(bytes, from + 4);
  for (let i = 0; i < 16; i++) {
    const q = byte(bytes, from + 8 + i);
    out[to + i] = Math.fround(d * ((q & 15) | (high >>> i & 1) << 4)) + m;
    out[to + i + 16] = Math.fround(d * (q >> 4 | (high >>> (i + 16) & 1) << 4)) + m;
  }
}

/** half d; 32 signed bytes. */
function readQ80(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  for (let i = 0; i < 32; i++) out[to + i] = d * signed(byte(bytes, from + 2 + i));
}

function word(bytes: Uint8Array, at: number): number {
  return byte(bytes, at) | byte(bytes, at + 1) << 8 | byte(bytes, at + 2) << 16 |
    byte(bytes, at + 3) << 24;
}

/** The six-bit scale of sub-block `j` of a K block; its minimum lies in the same 12 bytes. */
function scaleOfK(bytes: Uint8Array, scales: number, j: number): number {
  if (j < 4) return byte(bytes, scales + j) & 63;
  return byte(bytes, scales + j + 4) & 15 | byte(bytes, scales + j - 4) >> 6 << 4;
}

function minimumOfK(bytes: Uint8Array, scales: number, j: number): number {
  if (j < 4) return byte(bytes, scales + j + 4) & 63;
  return byte(bytes, scales + j + 4) >> 4 | byte(bytes, scales + j) >> 6 << 4;
}

/** half d, half dmin; 8 six-bit scales and minima in 12 bytes; 8 × 32 nibbles. */
function readQ4K(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  const dmin = half(bytes, from + 2);
  for (let j = 0; j < 8; j++) {
    const scale = Math.fround(d * scaleOfK(bytes, from + 4, j));
    const minimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j));
    const nibbles = from + 16 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) {
      const q = byte(bytes, nibbles + i) >> shift & 15;
      out[to + j * 32 + i] = Math.fround(scale * q) - minimum;
    }
  }
}

/** As Q4_K, with 32 bytes before the nibbles: bit j of byte i is the fifth bit of value 32j + i. */
function readQ5K(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from);
  const dmin = half(bytes, from + 2);
  for (let j = 0; j < 8; j++) {
    const scale = Math.fround(d * scaleOfK(bytes, from + 4, j));
    const minimum = Math.fround(dmin * minimumOfK(bytes, from + 4, j));
    const nibbles = from + 48 + (j >> 1) * 32;
    const shift = (j & 1) * 4;
    for (let i = 0; i < 32; i++) {
      const fifth = byte(bytes, from + 16 + i) >> j & 1;
      const q = byte(bytes, nibbles + i) >> shift & 15 | fifth << 4;
      out[to + j * 32 + i] = Math.fround(scale * q) - minimum;
    }
  }
}

/** 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, half d. */
function readQ6K(bytes: Uint8Array, from: number, out: Float32Array, to: number): void {
  const d = half(bytes, from + 208);
  for (let j = 0; j < 8; j++) {
    const part = j >> 2;
    const low = from + part * 64 + (j & 1) * 32;
    const lowShift = (j >> 1 & 1) * 4;
    const high = from + 128 + part * 32;
    const highShift = (j & 3) * 2;
    for (let i = 0; i < 32; i++) {
      const scale = Math.fround(d * signed(byte(bytes, from + 192 + j * 2 + (i >> 4))));
      const q = byte(bytes, low + i) >> lowShift & 15 |
        (byte(bytes, high + i) >> highShift & 3) << 4;
      out[to + j * 32 + i] = scale * (q - 32);
    }
  }
}
