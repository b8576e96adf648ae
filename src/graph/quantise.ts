/**
 * Weights in the layouts and precisions that kernels read: transposed float32, int8 per output
 * column, MatMulNBits' 8- and 4-bit blocks, int8 rows for embeddings. Pure functions over arrays.
 */

/** Weights as an affine 4-bit checkpoint stores them: w = scale · q + minimum, blocks of 32. */
export interface AffineBlocks {
  /** [out, in/32]. */
  readonly scales: Float32Array;
  /** [out, in/32]. */
  readonly minimums: Float32Array;
  /** [out, in/32, 16]: element i of a block in the low nibble of byte i, i + 16 in the high one. */
  readonly q: Uint8Array;
}

/** A parameter source that can hand out 4-bit blocks as they are stored. */
export interface BlockSource {
  /** Undefined where the parameter is stored in another form. */
  readBlocks(name: string): AffineBlocks | undefined;
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

/** MatMulNBits' 8 bits: u8 around 128 in blocks along the inputs, [out, in/block, block]. */
export function packNBits8(
  data: Float32Array,
  outs: number,
  ins: number,
  block: number,
): { readonly q: Uint8Array; readonly scales: Float32Array } {
  const signed = quantiseRows(data.subarray(0, outs * ins), block);
  const q = new Uint8Array(data.length);
  for (let i = 0; i < q.length; i++) q[i] = signed.q[i] + 128;
  return { q, scales: signed.scales };
}

/** One weight of a packed 4-bit linear. */
export interface BlockedWeight {
  readonly rows: number;
  readonly columns: number;
  readonly blocks: AffineBlocks | undefined;
  /** The weight in float32, for one that is not stored in 4 bits. */
  readonly read: () => Float32Array;
}

export interface NBits4 {
  /** [out, in/32, 16], two a byte, low nibble first. */
  readonly q: Uint8Array;
  /** [out · in/32]. */
  readonly scales: Float32Array;
  /** [in/32, out]: what a block's inputs are multiplied with beside q - 8. */
  readonly offsets: Float32Array;
}

/**
 * MatMulNBits' symmetric 4 bits: scale · q + minimum = scale · (q - 8) + (minimum + 8 · scale), the
 * last term a small product with the inputs' block sums. Nothing of the checkpoint's precision is
 * lost.
 */
export function packNBits4(weights: readonly BlockedWeight[]): NBits4 {
  const outs = weights.reduce((sum, { rows }) => sum + rows, 0);
  const perRow = (weights[0]?.columns ?? 0) / 32;
  const q = new Uint8Array(outs * perRow * 16);
  const scales = new Float32Array(outs * perRow);
  const offsets = new Float32Array(outs * perRow);
  let first = 0;
  for (const { rows, blocks, read } of weights) {
    const affine = blocks ?? affineBlocks(read());
    for (let b = 0; b < rows * perRow; b++) {
      const to = first * perRow + b;
      const row = first + Math.floor(b / perRow);
      scales[to] = affine.scales[b];
      offsets[(b % perRow) * outs + row] = affine.minimums[b] + 8 * affine.scales[b];
      interleave(affine.q, b * 16, q, to * 16);
    }
    first += rows;
  }
  return { q, scales, offsets };
}

/** From halves apart (element i with i + 16) to neighbours (2i with 2i + 1). */
function interleave(from: Uint8Array, start: number, to: Uint8Array, at: number): void {
  for (let i = 0; i < 8; i++) {
    const [a, b] = [from[start + 2 * i], from[start + 2 * i + 1]];
    to[at + i] = (a & 15) | (b & 15) << 4;
    to[at + 8 + i] = a >> 4 | b & 240;
  }
}

/** Rounds float32 to 16 steps between each block's least and greatest number (GGUF's Q4_1). */
export function affineBlocks(data: Float32Array): AffineBlocks {
  const count = data.length / 32;
  const scales = new Float32Array(count);
  const minimums = new Float32Array(count);
  const q = new Uint8Array(count * 16);
  for (let b = 0; b < count; b++) {
    const block = data.subarray(b * 32, b * 32 + 32);
    let [low, high] = [Infinity, -Infinity];
    for (const value of block) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const scale = (high - low) / 15;
    const inverse = scale === 0 ? 0 : 1 / scale;
    scales[b] = scale;
    minimums[b] = low;
    const step = (i: number) => Math.min(15, Math.round((block[i] - low) * inverse));
    for (let i = 0; i < 16; i++) q[b * 16 + i] = step(i) | step(i + 16) << 4;
  }
  return { scales, minimums, q };
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
