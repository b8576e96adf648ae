/**
 * The tensors of one or several safetensors files as a WeightSource, read one by one from disk. It
 * knows Hugging Face's index file; no config and no model.
 */

import type { GgmlType, ReadOptions, Rows, WeightInfo, WeightSource } from "../checkpoint.ts";
import { rowsWithin } from "../rows.ts";
import { dequantise } from "./dequantise.ts";
import { Fields } from "../fields.ts";
import { RandomAccessFile } from "./file.ts";
import {
  parseSafetensorsHeader,
  PREFIX_BYTES,
  type SafetensorsDtype,
  type SafetensorsEntry,
  safetensorsHeaderLength,
  type SafetensorsTensor,
} from "./safetensors.ts";

interface Placed {
  readonly file: RandomAccessFile;
  readonly entry: SafetensorsEntry;
}

const WEIGHT_TYPES: ReadonlyMap<SafetensorsDtype, GgmlType> = new Map([
  ["F32", "F32"],
  ["F16", "F16"],
  ["BF16", "BF16"],
]);

/** Open safetensors files. Close them, or hold them with `using`. */
export class SafetensorsWeights implements WeightSource, Disposable {
  readonly #files: readonly RandomAccessFile[];
  readonly #tensors: ReadonlyMap<string, Placed>;

  private constructor(files: readonly RandomAccessFile[], tensors: ReadonlyMap<string, Placed>) {
    this.#files = files;
    this.#tensors = tensors;
  }

  /**
   * Opens the files and checks their headers.
   *
   * @throws {TypeError} for a damaged header, or a tensor that two files have
   */
  static open(paths: readonly string[]): SafetensorsWeights {
    const files: RandomAccessFile[] = [];
    try {
      const tensors = new Map<string, Placed>();
      for (const path of paths) {
        const file = RandomAccessFile.open(path);
        files.push(file);
        addTensors(file, tensors);
      }
      return new SafetensorsWeights(files, tensors);
    } catch (error) {
      for (const file of files) file.close();
      throw error;
    }
  }

  names(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): WeightInfo & { readonly type: GgmlType } {
    const { entry } = this.#placed(name);
    return { shape: entry.shape, type: weightType(name, entry.dtype) };
  }

  read(name: string, { rows, into }: ReadOptions = {}): Float32Array {
    return dequantise(this.info(name).type, this.readRaw(name, rows), into);
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    const { file, entry } = this.#placed(name);
    const { first, count } = rowsWithin(name, entry, rows);
    const rowBytes = (entry.end - entry.begin) / (entry.shape[0] ?? 1);
    return file.read(entry.begin + first * rowBytes, count * rowBytes);
  }

  /** The dtype and shape of a tensor, whatever they are. */
  entry(name: string): SafetensorsEntry {
    return this.#placed(name).entry;
  }

  /** A tensor of any dtype as it lies in the file. */
  tensor(name: string): SafetensorsTensor {
    const { dtype, shape } = this.entry(name);
    return { dtype, shape, data: this.readRaw(name) };
  }

  blocks(): undefined {
    return undefined;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #placed(name: string): Placed {
    const placed = this.#tensors.get(name);
    if (placed === undefined) {
      throw new RangeError(`Cannot read weight '${name}': the checkpoint has none of this name`);
    }
    return placed;
  }
}

/**
 * The shards that a `model.safetensors.index.json` names, each once.
 *
 * @throws {TypeError} where a name is no plain file name: an index must not point elsewhere
 */
export function shardNames(index: unknown): readonly string[] {
  const source = "model.safetensors.index.json";
  const map = new Fields(source, index).optionalObject("weight_map");
  if (map === undefined) throw new TypeError(`Cannot read ${source}: weight_map is missing`);
  const names = new Set(map.names().map((weight) => map.optionalText(weight) ?? ""));
  for (const name of names) {
    if (!/^[\w.-]+\.safetensors$/.test(name)) {
      throw new TypeError(`Cannot read ${source}: '${name}' is no name of a shard beside it`);
    }
  }
  return [...names].sort();
}

function addTensors(file: RandomAccessFile, into: Map<string, Placed>): void {
  for (const [name, entry] of headerEntries(file)) {
    if (into.has(name)) {
      throw new TypeError(`Cannot read ${file.path}: another shard has tensor '${name}' too`);
    }
    into.set(name, { file, entry });
  }
}

function headerEntries(file: RandomAccessFile): ReadonlyMap<string, SafetensorsEntry> {
  try {
    const prefix = file.read(0, Math.min(PREFIX_BYTES, file.size));
    const length = safetensorsHeaderLength(prefix, file.size);
    return parseSafetensorsHeader(file.read(PREFIX_BYTES, length), file.size).entries;
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new TypeError(`${cause.message} (${file.path})`, { cause });
  }
}

function weightType(name: string, dtype: SafetensorsDtype): GgmlType {
  const type = WEIGHT_TYPES.get(dtype);
  if (type === undefined) {
    throw new TypeError(
      `Cannot read weight '${name}': its dtype is ${dtype}, supported are F32, F16, BF16`,
    );
  }
  return type;
}
