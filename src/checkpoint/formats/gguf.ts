/**
 * The GGUF container, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):
 * metadata and tensor extents, every count and length checked against the file's size before
 * anything is allocated for it.
 */

import type { GgmlType } from "../checkpoint.ts";
import { storedBytes } from "./dequantise.ts";
import type { RandomAccessFile } from "./file.ts";
import { GgufReader, SCALAR_BYTES } from "./gguf_reader.ts";

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
  readonly type: GgmlType;
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

/** ggml's type numbers; those without blocks here are named for the error's sake. */
const TYPES: ReadonlyMap<number, GgmlType> = new Map([
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

/** Numbers of metadata value types; the others are scalars. */
const ARRAY = 9;
const STRING = 8;

/** Hears of a metadata pair before those behind it are read, and may refuse it. */
export type SeenPair = (key: string, value: GgufValue) => void;

/**
 * Reads and checks the whole header.
 *
 * @throws {TypeError} saying what is wrong with the file and where
 */
export function readGgufHeader(file: RandomAccessFile, seen: SeenPair = () => {}): GgufHeader {
  const reader = new GgufReader(file);
  const version = readPreamble(reader);
  const tensorCount = reader.count("tensors", MIN_TENSOR_BYTES);
  const pairCount = reader.count("metadata pairs", MIN_PAIR_BYTES);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = reader.text();
    if (metadata.has(key)) throw reader.fault(`metadata '${key}' is there twice`);
    const value = readValue(reader, reader.u32(), key);
    seen(key, value);
    metadata.set(key, value);
  }
  const entries = Array.from({ length: tensorCount }, () => readTensorEntry(reader));
  const alignment = readAlignment(metadata, reader);
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  return { version, metadata, tensors: placeTensors(entries, dataStart, alignment, file) };
}

/** A tensor as its entry says, offset from the start of the data. */
type TensorEntry = GgufTensor;

function readPreamble(reader: GgufReader): number {
  const magic = reader.u32();
  if (magic !== MAGIC) throw reader.fault(`it does not start with "GGUF"`);
  const version = reader.u32();
  if (version > 0xffff) throw reader.fault("it is big-endian, only little-endian files are read");
  if (version !== 2 && version !== 3) {
    throw reader.fault(`its version is ${version}, 2 and 3 are read`);
  }
  return version;
}

function readValue(reader: GgufReader, type: number, key: string): GgufValue {
  if (type === STRING) return reader.text();
  if (type !== ARRAY) return reader.scalar(type, key);
  const elementType = reader.u32();
  if (elementType === STRING) {
    const count = reader.count(`strings in '${key}'`, 8);
    return times(count, () => reader.text());
  }
  const bytes = SCALAR_BYTES.get(elementType);
  if (bytes === undefined) {
    throw reader.fault(`'${key}' is an array of unknown type ${elementType}`);
  }
  const count = reader.count(`elements in '${key}'`, bytes);
  const values = times(count, () => reader.scalar(elementType, key));
  return values as readonly number[] | readonly boolean[];
}

/** `Array.from` takes four times as long, which hundreds of thousands of tokens show. */
function times<T>(count: number, next: () => T): T[] {
  const all: T[] = [];
  for (let i = 0; i < count; i++) all.push(next());
  return all;
}

function readTensorEntry(reader: GgufReader): TensorEntry {
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

function readAlignment(metadata: ReadonlyMap<string, GgufValue>, reader: GgufReader): number {
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
