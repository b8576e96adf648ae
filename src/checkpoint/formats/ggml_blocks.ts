/**
 * GGML's quantised blocks turned into the blocks of integers that kernels read, nothing rounded but
 * an offset to float32. Each type is taken apart as its `block_*` struct lays it out: unsigned steps,
 * and scales (and minimums) of groups of 16 or 32 of them.
 */
import { type Blocks, middleOf, type StoredBlocks } from "../../util/blocks.ts";
import type { GgmlType } from "../checkpoint.ts";
import { BLOCK_LAYOUTS, half } from "./dequantise.ts";

/** A block taken apart; written again for each block. */
interface Apart {
  readonly steps: Uint8Array;
  readonly scales: Float32Array;
  /** Of affine types alone. */
  readonly minimums: Float32Array;
}

/** w = scale · step + minimum of an affine type, scale · (step - centre) of any other. */
interface BlockType {
  /** Weights that share a scale. */
  readonly group: 16 | 32;
  /** Bits that hold a step, as kernels have them. */
  readonly bits: 4 | 8;
  /** The step in the middle. */
  readonly centre: number;
  readonly affine: boolean;
  readonly take: (bytes: Uint8Array, from: number, into: Apart) => void;
}

const BLOCK_TYPES: Readonly<Record<Exclude<GgmlType, "F32" | "F16" | "BF16">, BlockType>> = {
  Q4_0: { group: 32, bits: 4, centre: 8, affine: false, take: takeQ40 },
  Q4_1: { group: 32, bits: 4, centre: 8, affine: true, take: takeQ41 },
  Q5_0: { group: 32, bits: 8, centre: 16, affine: false, take: takeQ50 },
  Q5_1: { group: 32, bits: 8, centre: 16, affine: true, take: takeQ51 },
  Q8_0: { group: 32, bits: 8, centre: 128, affine: false, take: takeQ80 },
  Q4_K: { group: 32, bits: 4, centre: 8, affine: true, take: takeQ4K },
  Q5_K: { group: 32, bits: 8, centre: 16, affine: true, take: takeQ5K },
  Q6_K: { group: 16, bits: 8, centre: 32, affine: false, take: takeQ6K },
};

/** The blocks of a tensor whose bytes `read` gives; undefined for a plain type. */
export function storedBlocks(type: GgmlType, read: () => Uint8Array): StoredBlocks | undefined {
  if (type === "F32" || type === "F16" || type === "BF16") return undefined;
  const { bits, group: size, affine: offsets } = BLOCK_TYPES[type];
  return { bits, size, offsets, read: () => packBlocks(type, read()) };
}

function packBlocks(name: keyof typeof BLOCK_TYPES, bytes: Uint8Array): Blocks {
  const type = BLOCK_TYPES[name];
  const { elements, bytes: length } = BLOCK_LAYOUTS[name];
  const { group, affine, centre, bits } = type;
  const count = bytes.length / length * elements;
  const q = new Uint8Array(count * bits / 8);
  const scales = new Float32Array(count / group);
  const offsets = affine ? new Float32Array(count / group) : undefined;
  const apart = newApart();
  const shift = middleOf(bits) - centre;
  for (let [from, to] = [0, 0]; from < bytes.length; from += length, to += elements) {
    type.take(bytes, from, apart);
    for (let g = 0; g < elements / group; g++) {
      const scale = apart.scales[g];
      scales[to / group + g] = scale;
      if (offsets !== undefined) offsets[to / group + g] = apart.minimums[g] + centre * scale;
    }
    if (bits === 4) packNibbles(apart.steps, elements, q, to / 2);
    else for (let i = 0; i < elements; i++) q[to + i] = apart.steps[i] + shift;
  }
  return { q, scales, offsets };
}

/** Two steps a byte, the first in the low nibble. */
function packNibbles(steps: Uint8Array, count: number, q: Uint8Array, to: number): void {
  for (let i = 0; i < count / 2; i++) q[to + i] = steps[2 * i] | steps[2 * i + 1] << 4;
}

function newApart(): Apart {
  return {
    steps: new Uint8Array(256),
    scales: new Float32Array(16),
    minimums: new Float32Array(16),
  };
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 |
    bytes[at + 3] << 24;
}

/** 16 bytes: step i in the low nibble of byte i, step i + 16 in its high one; fifth bits beside. */
function takeNibbles(bytes: Uint8Array, from: number, fifth: number, steps: Uint8Array): void {
  for (let i = 0; i < 16; i++) {
    const q = bytes[from + i];
    steps[i] = q & 15 | (fifth >>> i & 1) << 4;
    steps[i + 16] = q >> 4 | (fifth >>> (i + 16) & 1) << 4;
  }
}

/** half d; nibbles. */
function takeQ40(bytes: Uint8Array, from: number, { steps, scales }: Apart): void {
  scales[0] = half(bytes, from);
  takeNibbles(bytes, from + 2, 0, steps);
}

/** half d, half m; nibbles. */
function takeQ41(bytes: Uint8Array, from: number, { steps, scales, minimums }: Apart): void {
  scales[0] = half(bytes, from);
  minimums[0] = half(bytes, from + 2);
  takeNibbles(bytes, from + 4, 0, steps);
}

/** half d; 32 fifth bits; nibbles. */
function takeQ50(bytes: Uint8Array, from: number, { steps, scales }: Apart): void {
  scales[0] = half(bytes, from);
  takeNibbles(bytes, from + 6, word(bytes, from + 2), steps);
}

/** half d, half m; 32 fifth bits; nibbles. */
function takeQ51(bytes: Uint8Array, from: number, { steps, scales, minimums }: Apart): void {
  scales[0] = half(bytes, from);
  minimums[0] = half(bytes, from + 2);
  takeNibbles(bytes, from + 8, word(bytes, from + 4), steps);
}

/** half d; 32 signed bytes. */
function takeQ80(bytes: Uint8Array, from: number, { steps, scales }: Apart): void {
  scales[0] = half(bytes, from);
  for (let i = 0; i < 32; i++) steps[i] = bytes[from + 2 + i] ^ 128;
}

/** half d, half dmin; 8 six-bit scales and minimums of them in 12 bytes. */
function takeScalesOfK(bytes: Uint8Array, from: number, { scales, minimums }: Apart): void {
  const d = half(bytes, from);
  const dmin = half(bytes, from + 2);
  const packed = from + 4;
  for (let j = 0; j < 4; j++) {
    const [scale, minimum] = [bytes[packed + j], bytes[packed + j + 4]];
    const rest = bytes[packed + j + 8];
    scales[j] = d * (scale & 63);
    minimums[j] = -dmin * (minimum & 63);
    scales[j + 4] = d * (rest & 15 | scale >> 6 << 4);
    minimums[j + 4] = -dmin * (rest >> 4 | minimum >> 6 << 4);
  }
}

/** Scales; 4 × 32 bytes, each with 32 steps in low nibbles and the next 32 in high ones. */
function takeQ4K(bytes: Uint8Array, from: number, into: Apart): void {
  takeScalesOfK(bytes, from, into);
  for (let i = 0; i < 128; i++) {
    const q = bytes[from + 16 + i];
    const to = (i >> 5) * 64 + (i & 31);
    into.steps[to] = q & 15;
    into.steps[to + 32] = q >> 4;
  }
}

/** As Q4_K, with 32 bytes before the nibbles: bit j of byte i is the fifth bit of step 32j + i. */
function takeQ5K(bytes: Uint8Array, from: number, into: Apart): void {
  takeScalesOfK(bytes, from, into);
  for (let i = 0; i < 128; i++) {
    const q = bytes[from + 48 + i];
    const [pair, at] = [i >> 5, i & 31];
    const fifth = bytes[from + 16 + at] >> 2 * pair;
    into.steps[pair * 64 + at] = q & 15 | (fifth & 1) << 4;
    into.steps[pair * 64 + 32 + at] = q >> 4 | (fifth >> 1 & 1) << 4;
  }
}

/** 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, half d. */
function takeQ6K(bytes: Uint8Array, from: number, { steps, scales }: Apart): void {
  const d = half(bytes, from + 208);
  for (let j = 0; j < 16; j++) scales[j] = d * (bytes[from + 192 + j] << 24 >> 24);
  for (let j = 0; j < 8; j++) {
    const part = j >> 2;
    const low = from + part * 64 + (j & 1) * 32;
    const lowShift = (j >> 1 & 1) * 4;
    const high = from + 128 + part * 32;
    const highShift = (j & 3) * 2;
    for (let i = 0; i < 32; i++) {
      steps[j * 32 + i] = bytes[low + i] >> lowShift & 15 |
        (bytes[high + i] >> highShift & 3) << 4;
    }
  }
}
