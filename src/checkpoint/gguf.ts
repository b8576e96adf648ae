/**
 * The GGUF container, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):
 * metadata and tensor extents, every count and length checked against the file's size before
 * anything is allocated for it. It knows no model and does not read weights.
 */

import type { WeightType } from "./checkpoint.ts";
import { storedBytes } from "./dequantise.ts";
import type { RandomAccessFile } from "./file.ts";

/** A metadata value; 64-bit integers are bigint only where a number would lose digits. */
export type GgufValue =
  | string
  | number
  | bigint
  | boolean
  | readonly string[]
  | readonly number[]
  | readonly boolean[];

export interface GgufTensor {
  readonly name: string;
  readonly type: WeightType;
  /** Row-major: GGUF's own order of dimensions, reversed. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** "GGUF", little-endian. */
const MAGIC = 0x46554747;
const MAX_DIMENSIONS = 4;
const DEFAULT_ALIGNMENT = 32;
/** A smallest key with value, and a smallest tensor entry: they bound the counts. */
const MIN_PAIR_BYTES = 13;
const MIN_TENSOR_BYTES = 24;
const CHUNK_BYTES = 1 << 20;

/** ggml's type numbers; those without blocks here are named for the error's sake. */
const TYPES: ReadonlyMap<number, WeightType> = new Map([
  [0, "F32"],
  [1, "F16"],
  [2, "Q4_0"],
  [3, "Q4_1"],
  [6, "Q5_0"],
  [7, "Q5_1"],
  [8, "Q8_0"],
  [12, "Q4_K"],
  [13, "Q5_K"],
  [14, "Q6_K"],
  [30, "BF16"],
]);
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [20, "IQ4_NL"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [23, "IQ4_XS"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
]);

/** Metadata value types by number. */
const ARRAY = 9;
const STRING = 8;
const SCALAR_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);

/**
 * Reads and checks the whole header.
 *
 * @throws {TypeError} saying what is wrong with the file and where
 */
export function readGgufHeader(file: RandomAccessFile): GgufHeader {
  const reader = new HeaderReader(file);
  const version = readPreamble(reader);
  const tensorCount = reader.count("tensors", MIN_TENSOR_BYTES);
  const pairCount = reader.count("metadata pairs", MIN_PAIR_BYTES);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = reader.text();
    if (metadata.has(key)) throw reader.fault(`metadata '${key}' is there twice`);
    metadata.set(key, readValue(reader, reader.u32(), key));
  }
  const entries = Array.from({ length: tensorCount }, () => readTensorEntry(reader));
  const alignment = readAlignment(metadata, reader);
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  return { version, metadata, tensors: placeTensors(entries, dataStart, alignment, file) };
}

/** A tensor as its entry says, offset from the start of the data. */
type TensorEntry = GgufTensor;

function readPreamble(reader: HeaderReader): number {
  const magic = reader.u32();
  if (magic !== MAGIC) throw reader.fault(`it does not start with "GGUF"`);
  const version = reader.u32();
  if (version > 0xffff) throw reader.fault("it is big-endian, only little-endian files are read");
  if (version !== 2 && version !== 3) {
    throw reader.fault(`its version is ${version}, 2 and 3 are read`);
  }
  return version;
}

function readValue(reader: HeaderReader, type: number, key: string): GgufValue {
  if (type === STRING) return reader.text();
  if (type !== ARRAY) return reader.scalar(type, key);
  const elementType = reader.u32();
  if (elementType === STRING) {
    const count = reader.count(`strings in '${key}'`, 8);
    return Array.from({ length: count }, () => reader.text());
  }
  const bytes = SCALAR_BYTES.get(elementType);
  if (bytes === undefined) {
    throw reader.fault(`'${key}' is an array of unknown type ${elementType}`);
  }
  const count = reader.count(`elements in '${key}'`, bytes);
  const values = Array.from({ length: count }, () => reader.scalar(elementType, key));
  return values as readonly number[] | readonly boolean[];
}

function readTensorEntry(reader: HeaderReader): TensorEntry {
  const name = reader.text();
  const rank = reader.u32();
  if (rank > MAX_DIMENSIONS) {
    throw reader.fault(
      `tensor '${name}' has ${rank} dimensions, at most ${MAX_DIMENSIONS} are read`,
    );
  }
  const shape = Array.from({ length: rank }, () => reader.size(`a dimension of '${name}'`))
    .reverse();
  const typeNumber = reader.u32();
  const type = TYPES.get(typeNumber);
  if (type === undefined) {
    const other = OTHER_TYPES.get(typeNumber) ?? `number ${typeNumber}`;
    throw reader.fault(
      `tensor '${name}' has type ${other}; known are ${[...TYPES.values()].join(", ")}`,
    );
  }
  const elements = shape.reduce((product, n) => product * n, 1);
  const row = shape.at(-1) ?? 1;
  if (!Number.isSafeInteger(elements) || elements === 0) {
    throw reader.fault(`tensor '${name}' has the shape [${shape}]`);
  }
  const offset = reader.size(`the offset of '${name}'`);
  try {
    storedBytes(type, row);
  } catch (cause) {
    throw reader.fault(`tensor '${name}' has rows of ${row}, no whole ${type} blocks`, cause);
  }
  return { name, type, shape, offset, bytes: storedBytes(type, elements) };
}

function readAlignment(metadata: ReadonlyMap<string, GgufValue>, reader: HeaderReader): number {
  const value = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (typeof value !== "number" || value < 8 || value > 1 << 20 || (value & (value - 1)) !== 0) {
    throw reader.fault(
      `general.alignment is ${String(value)}, it should be a power of two from 8 up`,
    );
  }
  return value;
}

function placeTensors(
  entries: readonly TensorEntry[],
  dataStart: number,
  alignment: number,
  file: RandomAccessFile,
): ReadonlyMap<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  let end = dataStart;
  let previous = "the header";
  for (const entry of entries.toSorted((a, b) => a.offset - b.offset)) {
    const offset = dataStart + entry.offset;
    const fault = offset < end
      ? `overlaps ${previous}`
      : entry.offset % alignment !== 0
      ? `starts at ${entry.offset}, no multiple of ${alignment}`
      : offset + entry.bytes > file.size
      ? `ends at byte ${offset + entry.bytes}, the file at ${file.size}`
      : tensors.has(entry.name)
      ? "is there twice"
      : undefined;
    if (fault !== undefined) {
      throw new TypeError(`Cannot read ${file.path}: tensor '${entry.name}' ${fault}`);
    }
    tensors.set(entry.name, { ...entry, offset });
    end = offset + entry.bytes;
    previous = `'${entry.name}'`;
  }
  return tensors;
}

/** Reads the header's fields in order, chunk by chunk. */
class HeaderReader {
  readonly #file: RandomAccessFile;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #chunk = new Uint8Array(0);
  #view = new DataView(this.#chunk.buffer);
  #chunkStart = 0;
  #at = 0;

  constructor(file: RandomAccessFile) {
    this.#file = file;
  }

  get position(): number {
    return this.#chunkStart + this.#at;
  }

  fault(text: string, cause?: unknown): TypeError {
    return new TypeError(`Cannot read ${this.#file.path}: ${text} (near byte ${this.position})`, {
      cause,
    });
  }

  u32(): number {
    const at = this.#take(4); // Before #view is read: taking may replace it.
    return this.#view.getUint32(at, true);
  }

  #u64(): bigint {
    const at = this.#take(8);
    return this.#view.getBigUint64(at, true);
  }

  /** A 64-bit number that is an exact one here: an offset or a dimension. */
  size(what: string): number {
    const value = this.#u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.fault(`${what} is ${value}`);
    return Number(value);
  }

  /** A 64-bit count of things of at least `minBytes` each, all still to come in the file. */
  count(what: string, minBytes: number): number {
    const value = this.#u64();
    const room = Math.floor((this.#file.size - this.position) / minBytes);
    if (value > BigInt(room)) {
      throw this.fault(`it claims ${value} ${what}, no more than ${room} fit`);
    }
    return Number(value);
  }

  text(): string {
    const length = this.count("bytes of a string", 1);
    const from = this.#take(length);
    try {
      return this.#decoder.decode(this.#chunk.subarray(from, from + length));
    } catch (cause) {
      throw this.fault("a string is not UTF-8", cause);
    }
  }

  scalar(type: number, key: string): number | bigint | boolean {
    const bytes = SCALAR_BYTES.get(type);
    if (bytes === undefined) throw this.fault(`'${key}' has the unknown type ${type}`);
    const at = this.#take(bytes);
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case 7:
        return view.getUint8(at) !== 0;
      case 10:
        return exact(view.getBigUint64(at, true));
      case 11:
        return exact(view.getBigInt64(at, true));
      default:
        return view.getFloat64(at, true);
    }
  }

  /** Makes the next `length` bytes present and steps over them; returns where they start. */
  #take(length: number): number {
    if (this.#at + length > this.#chunk.length) this.#refill(length);
    const from = this.#at;
    this.#at += length;
    return from;
  }

  #refill(length: number): void {
    const start = this.position;
    const left = this.#file.size - start;
    if (length > left) throw this.fault(`it ends within its header`);
    this.#chunk = this.#file.read(start, Math.min(left, Math.max(length, CHUNK_BYTES)));
    this.#view = new DataView(this.#chunk.buffer);
    this.#chunkStart = start;
    this.#at = 0;
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
