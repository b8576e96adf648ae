/**
 * Weights in the layouts and precisions that kernels read: transposed float32, int8 per output
 * column, MatMulNBits' 8- and 4-bit blocks, int8 rows for embeddings. Pure functions over arrays.
 */
import type { Blocks, StoredBlocks } from "../util/blocks.ts";

/** A parameter source that can hand out blocks of integers as they are stored. */
export interface BlockSource {
  /** Undefined where the parameter is stored in another form. */
  blocks(name: string): StoredBlocks | undefined;
}

export interface QuantisedColumns {
  /** [in, out]. */
  readonly q: Int8Array;
  /** [out]. */
  readonly scales: Float32Array;
}

const TILE = 64;

/** [rows, columns] → [columns, rows], in tiles that stay in the cache. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  forTiles(rows, columns, (r, c) => {
    out[c * rows + r] = data[r * columns + c];
  });
  return out;
}

/** Weights [out, in] → int8 [in, out] with scale = max|w| / 127 for each output. */
export function quantiseColumns(data: Float32Array, outs: number, ins: number): QuantisedColumns {
  const scales = new Float32Array(outs);
  const inverse = new Float64Array(outs);
  for (let o = 0; o < outs; o++) {
    const scale = largest(data, o * ins, ins) / 127;
    scales[o] = scale;
    inverse[o] = scale === 0 ? 0 : 1 / scale;
  }
  const q = new Int8Array(data.length);
  forTiles(outs, ins, (o, i) => {
    q[i * outs + o] = Math.round(data[o * ins + i] * inverse[o]);
  });
  return { q, scales };
}

/** Weights [rows, columns] → int8 of the same layout with scale = max|w| / 127 for each column. */
export function quantiseByColumn(
  data: Float32Array,
  rows: number,
  columns: number,
): QuantisedColumns {
  const scales = new Float32Array(columns);
  for (let i = 0; i < rows * columns; i++) {
    const size = Math.abs(data[i]);
    if (size > scales[i % columns]) scales[i % columns] = size;
  }
  for (let c = 0; c < columns; c++) scales[c] /= 127;
  const q = new Int8Array(data.length);
  for (let r = 0; r < rows; r++) {
    const at = r * columns;
    for (let c = 0; c < columns; c++) {
      q[at + c] = scales[c] === 0 ? 0 : Math.round(data[at + c] / scales[c]);
    }
  }
  return { q, scales };
}

/** Rows in int8 with a scale for each `block` numbers. */
export function quantiseRows(
  data: Float32Array,
  block: number,
): { readonly q: Int8Array; readonly scales: Float32Array } {
  const q = new Int8Array(data.length);
  const scales = new Float32Array(data.length / block);
  for (let b = 0; b < scales.length; b++) {
    const scale = largest(data, b * block, block) / 127;
    scales[b] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let i = b * block; i < (b + 1) * block; i++) q[i] = Math.round(data[i] * inverse);
  }
  return { q, scales };
}

/** Rounds float32 to 8 bits around 128 in blocks along the inputs. */
export function roundTo8Bits(data: Float32Array, block: number): Blocks {
  const signed = quantiseRows(data, block);
  const q = new Uint8Array(signed.q.buffer);
  // two's complement plus 128
  for (let i = 0; i < q.length; i++) q[i] ^= 128;
  return { q, scales: signed.scales, offsets: undefined };
}

/** Rounds float32 to 16 steps between each block's least and greatest number (GGUF's Q4_1). */
export function roundTo4Bits(data: Float32Array, block: number): Blocks {
  const count = data.length / block;
  const scales = new Float32Array(count);
  const offsets = new Float32Array(count);
  const q = new Uint8Array(data.length / 2);
  for (let b = 0; b < count; b++) {
    const part = data.subarray(b * block, (b + 1) * block);
    let [low, high] = [Infinity, -Infinity];
    for (const value of part) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const scale = (high - low) / 15;
    const inverse = scale === 0 ? 0 : 1 / scale;
    scales[b] = scale;
    offsets[b] = low + 8 * scale;
    const step = (i: number) => Math.min(15, Math.round((part[i] - low) * inverse));
    const at = b * block / 2;
    for (let i = 0; i < block / 2; i++) q[at + i] = step(2 * i) | step(2 * i + 1) << 4;
  }
  return { q, scales, offsets };
}

/** Blocks of a linear's weights, one below the other, with offsets as a matrix of their own. */
export interface PackedBlocks {
  readonly q: Uint8Array;
  readonly scales: Float32Array;
  /** [in/size, out]: what the inputs' block sums are multiplied with. */
  readonly offsets: Float32Array;
}

/** Joins weights of one form, each with `perRow` blocks a row; none has offsets, or all have. */
export function joinBlocks(parts: readonly Blocks[], perRow: number): PackedBlocks {
  const q = joinArrays(parts.map((part) => part.q), (length) => new Uint8Array(length));
  const floats = (length: number) => new Float32Array(length);
  const scales = joinArrays(parts.map((part) => part.scales), floats);
  const offsets = joinArrays(parts.flatMap((part) => part.offsets ?? []), floats);
  return { q, scales, offsets: transpose(offsets, offsets.length / perRow, perRow) };
}

function joinArrays<T extends Uint8Array | Float32Array>(
  parts: readonly T[],
  make: (length: number) => T,
): T {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const all = make(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function largest(data: Float32Array, start: number, count: number): number {
  let max = 0;
  for (let i = start; i < start + count; i++) {
    const size = Math.abs(data[i]);
    if (size > max) max = size;
  }
  return max;
}

function forTiles(rows: number, columns: number, visit: (r: number, c: number) => void): void {
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    for (let c0 = 0; c0 < columns; c0 += TILE) {
      const [r1, c1] = [Math.min(rows, r0 + TILE), Math.min(columns, c0 + TILE)];
      for (let r = r0; r < r1; r++) for (let c = c0; c < c1; c++) visit(r, c);
    }
  }
}
