/**
 * Weights whose files have several linears as one tensor, one below the other (Phi-3's `qkv_proj`), by
 * the names of the linears alone: each is some of the rows.
 */
import type { StoredBlocks } from "../../util/blocks.ts";
import type { DecoderConfig, ReadOptions, Rows, WeightInfo, WeightSource } from "../checkpoint.ts";
import { rowsWithin } from "../rows.ts";

/** Which linears a tensor has, by its name in a layer, from the first row on. */
export type Fused = Readonly<Record<string, readonly string[]>>;

/** A linear's tensor and its rows of it. */
interface Part extends Rows {
  readonly of: string;
}

export class FusedWeights implements WeightSource {
  readonly #source: WeightSource;
  readonly #parts = new Map<string, Part>();
  readonly #whole: readonly string[];

  constructor(source: WeightSource, config: DecoderConfig, fused: Fused) {
    this.#source = source;
    const names = source.names().map((name) => {
      const [, layer, linear, kind] = /^(.+\.)(\w+)\.(weight|bias)$/.exec(name) ?? [];
      const parts = Object.hasOwn(fused, linear) ? fused[linear] : undefined;
      if (parts === undefined) return [name];
      let first = 0;
      return parts.map((part) => {
        const own = `${layer}${part}.${kind}`;
        const count = rowsOf(config, part);
        this.#parts.set(own, { of: name, first, count });
        first += count;
        return own;
      });
    });
    this.#whole = names.flat();
  }

  names(): readonly string[] {
    return this.#whole;
  }

  has(name: string): boolean {
    return this.#parts.has(name) || this.#source.has(name);
  }

  info(name: string): WeightInfo {
    const part = this.#parts.get(name);
    if (part === undefined) return this.#source.info(name);
    const { shape: [rows, ...rest], type } = this.#source.info(part.of);
    // too few rows are told by the shape
    return { shape: [Math.max(0, Math.min(part.count, rows - part.first)), ...rest], type };
  }

  read(name: string, options: ReadOptions = {}): Float32Array {
    const part = this.#parts.get(name);
    if (part === undefined) return this.#source.read(name, options);
    return this.#source.read(part.of, { ...options, rows: this.#rows(name, part, options.rows) });
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    const part = this.#parts.get(name);
    if (part === undefined) return this.#source.readRaw(name, rows);
    return this.#source.readRaw(part.of, this.#rows(name, part, rows));
  }

  blocks(name: string): StoredBlocks | undefined {
    const part = this.#parts.get(name);
    const blocks = this.#source.blocks(part?.of ?? name);
    if (part === undefined || blocks === undefined) return blocks;
    const [rows] = this.#source.info(part.of).shape;
    const some = <T extends { readonly length: number; slice(start: number, end: number): T }>(
      all: T,
    ) => all.slice(all.length / rows * part.first, all.length / rows * (part.first + part.count));
    return {
      ...blocks,
      read: () => {
        const { q, scales, offsets } = blocks.read();
        return { q: some(q), scales: some(scales), offsets: offsets && some(offsets) };
      },
    };
  }

  #rows(name: string, part: Part, rows: Rows | undefined): Rows {
    const { first, count } = rowsWithin(name, this.info(name), rows);
    return { first: part.first + first, count };
  }
}

function rowsOf({ numHeads, numKvHeads, headDim, intermediateSize }: DecoderConfig, part: string) {
  if (part === "q_proj") return numHeads * headDim;
  return part === "gate_proj" || part === "up_proj" ? intermediateSize : numKvHeads * headDim;
}
