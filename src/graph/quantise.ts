/**
 * Weights in the layouts and precisions that kernels read: transposed float32, int8 per output
 * column, MatMulNBits' 8- and 4-bit blocks, int8 rows for embeddings. Pure functions over arrays; what
 * training makes while a server serves gives the event loop its turns.
 */
import { turnEvery } from "../util/time.ts";
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
/** Milliseconds after which others get the event loop: jobs start, and weights are made, while it serves. */
const PATIENCE = 5;

/** [rows, columns] → [columns, rows], in tiles that stay in the cache. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  forTiles(rows, columns, (r, c) => {
    out[c * rows + r] = data[r * columns + c];
  });
  return out;
}

/** A matrix that is read some rows at a time: a large one is never there in float32 as a whole. */
export interface RowSource {
  readonly rows: number;
  readonly columns: number;
  /** [count, columns], newly allocated or not; valid until the next call. */
  read(first: number, count: number): Float32Array;
}

/** A matrix that is there already. */
export function rowsOfArray(data: Float32Array, columns: number): RowSource {
  const read = (first: number, count: number) =>
    data.subarray(first * columns, (first + count) * columns);
  return { rows: data.length / columns, columns, read };
}

/** Weights [out, in] → int8 [in, out] with scale = max|w| / 127 for each output. */
export async function quantiseColumns(source: RowSource): Promise<QuantisedColumns> {
  const turn = turnEvery(PATIENCE);
  const { rows: outs, columns: ins } = source;
  const scales = new Float32Array(outs);
  const q = new Int8Array(outs * ins);
  for (const { first, count, data } of bands(source)) {
    const inverse = new Float64Array(count);
    for (let r = 0; r < count; r++) {
      const scale = scales[first + r] = largest(data, r * ins, ins) / 127;
      inverse[r] = scale === 0 ? 0 : 1 / scale;
    }
    for (let start = 0; start < count; start += TILE) {
      roundColumns(data, ins, inverse, q, outs, first, start, Math.min(count, start + TILE));
    }
    await turn();
  }
  return { q, scales };
}

/** Rows `start` … `end` of a band: read along columns, written along outputs, a cache line at once. */
function roundColumns(
  data: Float32Array,
  ins: number,
  inverse: Float64Array,
  q: Int8Array,
  outs: number,
  first: number,
  start: number,
  end: number,
): void {
  for (let i = 0; i < ins; i++) {
    const to = i * outs + first;
    for (let r = start; r < end; r++) q[to + r] = round(data[r * ins + i] * inverse[r]);
  }
}

/** int8 as uint8 around 128, in the same memory. */
export function around128(q: Int8Array): Uint8Array {
  const raised = new Uint8Array(q.buffer, q.byteOffset, q.length);
  for (let i = 0; i < raised.length; i++) raised[i] ^= 128;
  return raised;
}

/** Weights [rows, columns] → int8 of the same layout with scale = max|w| / 127 for each column. */
export async function quantiseByColumn(source: RowSource): Promise<QuantisedColumns> {
  const { rows, columns } = source;
  const turn = turnEvery(PATIENCE);
  const scales = new Float32Array(columns);
  for (const { count, data } of bands(source)) {
    raiseToLargest(scales, data, count);
    await turn();
  }
  for (let c = 0; c < columns; c++) scales[c] /= 127;
  const inverse = Float64Array.from(scales, (scale) => scale === 0 ? 0 : 1 / scale);
  const q = new Int8Array(rows * columns);
  for (const { first, count, data } of bands(source)) {
    for (let r = 0; r < count; r++) {
      const [from, to] = [r * columns, (first + r) * columns];
      for (let c = 0; c < columns; c++) {
        q[to + c] = round(data[from + c] * inverse[c]);
      }
    }
    await turn();
  }
  return { q, scales };
}

function raiseToLargest(largest: Float32Array, data: Float32Array, rows: number): void {
  const columns = largest.length;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const size = Math.abs(data[r * columns + c]);
      if (size > largest[c]) largest[c] = size;
    }
  }
}

/** Rows in int8 with a scale for each `block` numbers. */
export function quantiseRows(
  source: RowSource,
  block: number,
): { readonly q: Int8Array<ArrayBuffer>; readonly scales: Float32Array } {
  const { rows, columns } = source;
  const q = new Int8Array(rows * columns);
  const scales = new Float32Array(rows * columns / block);
  for (const { first, data } of bands(source)) {
    const start = first * columns;
    for (let b = 0; b < data.length / block; b++) {
      const scale = largest(data, b * block, block) / 127;
      scales[start / block + b] = scale;
      const inverse = scale === 0 ? 0 : 1 / scale;
      for (let i = b * block; i < (b + 1) * block; i++) {
        q[start + i] = round(data[i] * inverse);
      }
    }
  }
  return { q, scales };
}

/** Math.round of what int8 holds, five times as fast. */
function round(x: number): number {
  return (x + 128.5 | 0) - 128;
}

/** Numbers of a band: a megabyte in float32. */
const BAND = 2 ** 18;

function* bands(source: RowSource) {
  const { rows, columns } = source;
  const most = Math.max(1, Math.floor(BAND / columns / TILE)) * TILE;
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const data = source.read(first, count);
    if (data.length !== count * columns) {
      throw new Error(
        `internal: asked for ${count} rows of ${columns}, got ${data.length} numbers`,
      );
    }
    yield { first, count, data };
  }
}

/** Rounds float32 to 8 bits around 128 in blocks along the inputs. */
export function roundTo8Bits(data: Float32Array, block: number): Blocks {
  const signed = quantiseRows(rowsOfArray(data, block), block);
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
