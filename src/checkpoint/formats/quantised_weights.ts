/**
 * Safetensors whose linears AWQ, GPTQ or FP8 have packed, under the usual names: `X.weight` stands for
 * `X.qweight` and the tensors beside it, or for `X.weight` in F8_E4M3 with its scales.
 */
import type { StoredBlocks } from "../../util/blocks.ts";
import type { ReadOptions, Rows, WeightInfo, WeightSource } from "../checkpoint.ts";
import type { Quantisation } from "../quantisation.ts";
import { rowsWithin } from "../rows.ts";
import { readFp8 } from "./fp8.ts";
import { PackedLinear, PARTS } from "./packed_linear.ts";
import type { SafetensorsWeights } from "./safetensors_weights.ts";

const SCALES = ["weight_scale_inv", "weight_scale"];
/** What is of no use here: scales of activations, keys and values, which are not rounded so. */
const UNUSED = /\.(?:input_scale|k_scale|v_scale|k_proj\.output_scale|v_proj\.output_scale)$/;

export class QuantisedWeights implements WeightSource {
  readonly #source: SafetensorsWeights;
  readonly #method: Quantisation;
  readonly #names: readonly string[];
  /** The packed linear that was asked for last: rows of it are read one after the other. */
  #last: { readonly name: string; readonly linear: PackedLinear } | undefined;

  constructor(source: SafetensorsWeights, method: Quantisation) {
    this.#source = source;
    this.#method = method;
    this.#names = namesOf(source, method);
  }

  names(): readonly string[] {
    return this.#names;
  }

  has(name: string): boolean {
    return this.#source.has(name) || this.#packed(name) !== undefined;
  }

  info(name: string): WeightInfo {
    const packed = this.#packed(name);
    if (packed !== undefined) {
      return { shape: packed.shape, type: this.#method.method === "awq" ? "AWQ" : "GPTQ" };
    }
    return this.#scale(name) === undefined
      ? this.#source.info(name)
      : { shape: this.#source.entry(name).shape, type: "F8_E4M3" };
  }

  read(name: string, options: ReadOptions = {}): Float32Array {
    const [packed, scale] = [this.#packed(name), this.#scale(name)];
    if (packed === undefined && scale === undefined) return this.#source.read(name, options);
    const rows = rowsWithin(name, this.info(name), options.rows);
    const values = packed?.read(rows) ?? this.#readFp8(name, scale ?? "", rows);
    options.into?.set(values);
    return options.into ?? values;
  }

  #readFp8(name: string, scale: string, rows: Rows): Float32Array {
    const { shape } = this.#source.entry(name);
    const block = this.#method.method === "fp8" ? this.#method.block : NO_BLOCK;
    const bytes = this.#source.readRaw(name, rows);
    return readFp8(bytes, rows.first, shape, this.#source.tensor(scale), block);
  }

  /** The bytes of all tensors that stand for it, one after the other. */
  readRaw(name: string, rows?: Rows): Uint8Array {
    const stored = this.#stored(name);
    if (rows !== undefined) {
      if (stored.length === 1) return this.#source.readRaw(name, rows);
      throw new TypeError(`internal: rows of the packed weight ${name} have no bytes of their own`);
    }
    const parts = stored.map((part) => this.#source.readRaw(part));
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  blocks(name: string): StoredBlocks | undefined {
    return this.#packed(name)?.blocks();
  }

  #stored(name: string): readonly string[] {
    if (this.#packed(name) !== undefined) {
      return PARTS.map((part) => beside(name, part)).filter((part) => this.#source.has(part));
    }
    const scale = this.#scale(name);
    return scale === undefined ? [name] : [name, scale];
  }

  #packed(name: string): PackedLinear | undefined {
    if (this.#last?.name === name) return this.#last.linear;
    const linear = this.#open(name);
    if (linear !== undefined) this.#last = { name, linear };
    return linear;
  }

  #open(name: string): PackedLinear | undefined {
    const qweight = beside(name, "qweight");
    const method = this.#method;
    if (method.method === "fp8" || !name.endsWith(WEIGHT)) return undefined;
    if (!this.#source.has(qweight)) return undefined;
    return new PackedLinear(method, this.#source.entry(qweight).shape, (part) => {
      const tensor = beside(name, part);
      return this.#source.has(tensor) ? this.#source.tensor(tensor) : undefined;
    });
  }

  /** The scales of an FP8 weight. */
  #scale(name: string): string | undefined {
    if (!name.endsWith(WEIGHT) || !this.#source.has(name)) return undefined;
    if (this.#source.entry(name).dtype !== "F8_E4M3") return undefined;
    const found = SCALES.map((part) => beside(name, part)).find((part) => this.#source.has(part));
    if (found !== undefined) return found;
    throw new TypeError(`Cannot read weight '${name}': it is F8_E4M3 and has no weight_scale`);
  }
}

const WEIGHT = ".weight";
/** An FP8 weight of a file that is none: whole, or by rows. */
const NO_BLOCK = [1, 1] as const;

function beside(name: string, part: string): string {
  return `${name.slice(0, -WEIGHT.length)}.${part}`;
}

/** Usual names: one for the parts of a packed linear, none for scales. */
function namesOf(source: SafetensorsWeights, { method }: Quantisation): readonly string[] {
  const parts: readonly string[] = method === "fp8" ? SCALES : PARTS;
  const usual = source.names().filter((name) => !UNUSED.test(name)).flatMap((name) => {
    const part = parts.find((part) => name.endsWith(`.${part}`));
    if (part === undefined) return [name];
    return part === "qweight" ? [name.slice(0, -part.length) + "weight"] : [];
  });
  return usual;
}
