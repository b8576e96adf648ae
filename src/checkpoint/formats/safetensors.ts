/**
 * The safetensors container (https://github.com/huggingface/safetensors): its header checked in
 * full, whole files in memory parsed and written. It owns the byte layout and the dtypes; it knows
 * no file system and not what a tensor is for.
 */

/** Bytes an element takes, by safetensors' own dtype names. */
export const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  BOOL: 1,
} as const;

export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

/** A tensor in memory: little-endian, row-major bytes. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Where a tensor lies: `begin` and `end` count from the first byte of the file. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

export interface SafetensorsContents {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
}

/** The length field before the header, in bytes. */
export const PREFIX_BYTES = 8;

/** The reference reader's own limit: a longer header is an attack, not a model. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Reads the header's length from the first 8 bytes of a file of `fileSize` bytes.
 * @throws {TypeError} where the length cannot be true.
 */
export function safetensorsHeaderLength(prefix: Uint8Array, fileSize: number): number {
  if (prefix.length < PREFIX_BYTES) {
    throw new TypeError(
      `Cannot read safetensors: the file has ${fileSize} bytes, a header length needs 8`,
    );
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const length = view.getBigUint64(0, true);
  const room = Math.min(MAX_HEADER_BYTES, fileSize - PREFIX_BYTES);
  if (length < 2n || length > BigInt(Math.max(room, 0))) {
    throw new TypeError(
      `Cannot read safetensors: the header claims ${length} bytes, between 2 and ${room} fit`,
    );
  }
  return Number(length);
}

/**
 * Parses and checks a header: every tensor's extent matches its shape and dtype, and together they
 * cover the data exactly, without hole or overlap.
 *
 * @param json the header's bytes, without the length field
 * @throws {TypeError} naming the tensor and what is wrong with it
 */
export function parseSafetensorsHeader(json: Uint8Array, fileSize: number): SafetensorsHeader {
  const dataStart = PREFIX_BYTES + json.length;
  const metadata = new Map<string, string>();
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, value] of Object.entries(headerObject(json))) {
    if (name === "__metadata__") readMetadata(value, metadata);
    else entries.set(name, readEntry(name, value, dataStart));
  }
  checkCover(entries, dataStart, fileSize);
  return { metadata, entries };
}

/**
 * Parses a whole safetensors file held in memory. The tensors' data are views into `bytes`.
 *
 * @throws {TypeError} where the bytes are not exactly one well-formed file
 */
export function parseSafetensors(bytes: Uint8Array): SafetensorsContents {
  const length = safetensorsHeaderLength(bytes.subarray(0, PREFIX_BYTES), bytes.length);
  const json = bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
  const { metadata, entries } = parseSafetensorsHeader(json, bytes.length);
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, { dtype, shape, begin, end }] of entries) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(begin, end) });
  }
  return { metadata, tensors };
}

/**
 * Writes one safetensors file. The result depends only on the contents, not on their order: larger
 * dtypes come first (which aligns every tensor), then names in code-unit order; the data start at a
 * multiple of 8.
 *
 * @param tensors a Map, or `Object.entries` of a record
 * @throws {TypeError} where a tensor's data do not match its shape and dtype
 */
export function writeSafetensors(
  tensors: Iterable<readonly [string, SafetensorsTensor]>,
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array<ArrayBuffer> {
  const known = new Map(tensors);
  for (const [name, tensor] of known) checkTensor(name, tensor);
  const { start, order } = safetensorsStart(known, metadata);
  const parts = order.map((name) => known.get(name)?.data ?? new Uint8Array());
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, start.length));
  let position = 0;
  for (const part of [start, ...parts]) {
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}

/**
 * What a file of these tensors begins with, and the order in which their data follow: for files that
 * are written as their tensors are made.
 */
export function safetensorsStart(
  tensors: Iterable<readonly [string, Omit<SafetensorsTensor, "data">]>,
  metadata: Iterable<readonly [string, string]> = [],
): { readonly start: Uint8Array<ArrayBuffer>; readonly order: readonly string[] } {
  const sorted = [...tensors].sort(([a, x], [b, y]) =>
    DTYPE_BYTES[y.dtype] - DTYPE_BYTES[x.dtype] || compareText(a, b)
  );
  const fields: [string, unknown][] = [];
  const pairs = [...metadata].sort(([a], [b]) => compareText(a, b));
  if (pairs.length > 0) fields.push(["__metadata__", Object.fromEntries(pairs)]);
  let offset = 0;
  for (const [name, { dtype, shape }] of sorted) {
    const end = offset + elementCount(shape) * DTYPE_BYTES[dtype];
    fields.push([name, { dtype, shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields)));
  const headerLength = Math.ceil(json.length / 8) * 8;
  const start = new Uint8Array(PREFIX_BYTES + headerLength).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(headerLength), true);
  start.set(json, PREFIX_BYTES);
  return { start, order: sorted.map(([name]) => name) };
}

/** A float32 tensor over the same memory as `values`. */
export function float32Tensor(shape: readonly number[], values: Float32Array): SafetensorsTensor {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { dtype: "F32", shape, data };
}

/** The number of elements of a shape; 1 for a scalar's empty one. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function checkTensor(name: string, { dtype, shape, data }: SafetensorsTensor): void {
  const wanted = elementCount(shape) * DTYPE_BYTES[dtype];
  if (data.length !== wanted || name === "__metadata__") {
    throw new TypeError(
      `Cannot write tensor '${name}': ${dtype} [${shape}] takes ${wanted} bytes, ` +
        `current value is ${data.length}`,
    );
  }
}

function headerObject(json: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json));
  } catch (cause) {
    throw new TypeError("Cannot read safetensors: the header is not JSON", { cause });
  }
  if (!isRecord(value)) {
    throw new TypeError("Cannot read safetensors: the header is not a JSON object");
  }
  return value;
}

function readMetadata(value: unknown, into: Map<string, string>): void {
  if (!isRecord(value)) {
    throw new TypeError("Cannot read safetensors: __metadata__ is not an object of strings");
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw new TypeError(`Cannot read safetensors: metadata '${key}' is not a string`);
    }
    into.set(key, text);
  }
}

function readEntry(name: string, value: unknown, dataStart: number): SafetensorsEntry {
  if (!isRecord(value)) throw new TypeError(`Cannot read tensor '${name}': no entry object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) {
    throw new TypeError(
      `Cannot read tensor '${name}': dtype is ${JSON.stringify(dtype)}, ` +
        `known are ${Object.keys(DTYPE_BYTES).join(", ")}`,
    );
  }
  if (!isCounts(shape) || !Number.isSafeInteger(elementCount(shape))) {
    throw new TypeError(`Cannot read tensor '${name}': shape is ${JSON.stringify(shape)}`);
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw new TypeError(`Cannot read tensor '${name}': offsets are ${JSON.stringify(offsets)}`);
  }
  const [begin = 0, end = 0] = offsets;
  const wanted = elementCount(shape) * DTYPE_BYTES[dtype];
  if (end - begin !== wanted) {
    throw new TypeError(
      `Cannot read tensor '${name}': ${dtype} [${shape}] takes ${wanted} bytes, ` +
        `its offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

function checkCover(
  entries: ReadonlyMap<string, SafetensorsEntry>,
  dataStart: number,
  fileSize: number,
): void {
  const sorted = [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let position = dataStart;
  for (const [name, { begin, end }] of sorted) {
    if (begin !== position) {
      const fault = begin < position ? "overlaps the one before" : "leaves a hole before it";
      throw new TypeError(
        `Cannot read tensor '${name}': it ${fault}, starting at ${begin - dataStart} ` +
          `instead of ${position - dataStart}`,
      );
    }
    position = end;
  }
  if (position !== fileSize) {
    throw new TypeError(
      `Cannot read safetensors: the tensors end at byte ${position}, the file at ${fileSize}`,
    );
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BYTES, value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
