/**
 * Reads a GGUF header's fields in their order from a file, chunk by chunk: numbers, counts that the
 * file has room for, strings.
 */

import type { RandomAccessFile } from "./file.ts";

const CHUNK_BYTES = 1 << 20;
/** Bytes of a string for which a decoder's call costs more than the string. */
const SHORT = 64;

/** Bytes of a scalar, by GGUF's number of its type. */
export const SCALAR_BYTES: ReadonlyMap<number, number> = new Map([
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

/** A place in a header, and what follows it. Every read throws a TypeError at the file's end. */
export class GgufReader {
  readonly #file: RandomAccessFile;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly #units = new Uint16Array(SHORT);
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

  /** As a number where it is an exact one. */
  #u64(): number | bigint {
    const at = this.#take(8);
    const high = this.#view.getUint32(at + 4, true);
    return high === 0 ? this.#view.getUint32(at, true) : exact(this.#view.getBigUint64(at, true));
  }

  /** A 64-bit number that is an exact one here: an offset or a dimension. */
  size(what: string): number {
    const value = this.#u64();
    if (typeof value === "bigint") throw this.fault(`${what} is ${value}`);
    return value;
  }

  /** A 64-bit count of things of at least `minBytes` each, all still to come in the file. */
  count(what: string, minBytes: number): number {
    const value = this.#u64();
    const room = Math.floor((this.#file.size - this.position) / minBytes);
    if (typeof value === "bigint" || value > room) {
      throw this.fault(`it claims ${value} ${what}, no more than ${room} fit`);
    }
    return value;
  }

  text(): string {
    const length = this.count("bytes of a string", 1);
    const from = this.#take(length);
    const short = length > SHORT ? undefined : this.#short(from, from + length);
    if (short !== undefined) return short;
    try {
      return this.#decoder.decode(this.#chunk.subarray(from, from + length));
    } catch (cause) {
      throw this.fault("a string is not UTF-8", cause);
    }
  }

  /** UTF-8 of one and two bytes a character, as nearly all tokens are; undefined for others. */
  #short(from: number, to: number): string | undefined {
    const [chunk, units] = [this.#chunk, this.#units];
    let count = 0;
    for (let at = from; at < to; at++) {
      const byte = chunk[at];
      if (byte < 0x80) {
        units[count++] = byte;
        continue;
      }
      const next = at + 1 < to ? chunk[++at] : 0;
      if (byte < 0xc2 || byte > 0xdf || (next & 0xc0) !== 0x80) return undefined;
      units[count++] = (byte & 0x1f) << 6 | next & 0x3f;
    }
    return String.fromCharCode.apply(null, units.subarray(0, count) as unknown as number[]);
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
