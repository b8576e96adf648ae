/**
 * A decoder's parameters as its graph names them: the checkpoint's weights with everything folded
 * in that can be (the scales of embeddings, attention, residuals and logits, SmoothQuant's channel scales, arXiv 2211.10438), RoPE
 * tables, and the factors of a hook scaled to match.
 *
 * Folding changes no product: an input channel divided by c meets a weight column multiplied by c.
 * A branch that reads the divided input x/c takes diag(c)·A; one whose output is divided takes B/c.
 */
import type { Checkpoint, DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type RopeTables, ropeTables } from "../checkpoint/rope.ts";
import type { ParameterSource, Rows } from "../graph/graph.ts";
import { lazy } from "../graph/lowering/lazy.ts";
import type { BlockSource } from "../graph/quantise.ts";
import type { StoredBlocks } from "../util/blocks.ts";
import { type LinearHook, type ModuleName, SITE_OF, type SiteName } from "./hook.ts";

/** Channel scales by which activations are divided: of each layer's sites, and of the head's input. */
export interface Smoothing {
  readonly layers: readonly Readonly<Record<SiteName, Float32Array>>[];
  readonly head: Float32Array;
}

/** Names of the parameters of a decoder graph. */
export const names = {
  embedding: "model.embed_tokens.weight",
  head: "lm_head.weight",
  norm: "model.norm.weight",
  /** The first without a number: prepared weights were made under that name. */
  cos: (rope: number) => `rope.cos${rope || ""}`,
  sin: (rope: number) => `rope.sin${rope || ""}`,
  layer: (layer: number, part: string) => `model.layers.${layer}.${part}.weight`,
  headNorm: (layer: number, which: "q" | "k") =>
    `model.layers.${layer}.self_attn.${which}_norm.weight`,
  linear: (layer: number, module: ModuleName, what: "weight" | "bias" = "weight") =>
    `model.layers.${layer}.${PART[SITE_OF[module]]}.${module}.${what}`,
  a: (layer: number, site: SiteName) => `lotr.${layer}.a.${site}`,
  b: (layer: number, module: ModuleName) => `lotr.${layer}.b.${module}`,
} as const;

const PART: Readonly<Record<SiteName, string>> = {
  "attn_in": "self_attn",
  "attn_out": "self_attn",
  "mlp_in": "mlp",
  "mlp_mid": "mlp",
};

/** Multipliers of a weight's rows (outputs) and columns (inputs); undefined = all ones. */
interface Scales {
  readonly rows: ArrayLike<number> | undefined;
  readonly columns: ArrayLike<number> | undefined;
}

/** Everything a decoder graph reads, by the names above. */
export class DecoderParameters implements ParameterSource, BlockSource {
  readonly #checkpoint: Checkpoint;
  readonly #hook: LinearHook | undefined;
  readonly #smoothing: Smoothing | undefined;
  /** Made when a graph asks: they are megabytes, and the graphs of a base share one tensor of each. */
  readonly #ropes: readonly (() => RopeTables)[];

  /** `positions`: rows of the RoPE tables. */
  constructor(
    checkpoint: Checkpoint,
    positions: number,
    options: { readonly hook?: LinearHook; readonly smoothing?: Smoothing } = {},
  ) {
    this.#checkpoint = checkpoint;
    this.#hook = options.hook;
    this.#smoothing = options.smoothing;
    const { ropes, headDim } = checkpoint.config;
    this.#ropes = ropes.map((rope) => lazy(() => ropeTables(rope, headDim, positions)));
  }

  read(name: string, options: { readonly rows?: Rows } = {}): Float32Array {
    const table = this.#table(name);
    if (table !== undefined) return table;
    const { rows, columns } = this.#scales(name);
    const { weights } = this.#checkpoint;
    const stored = this.#stored(name);
    const { shape } = weights.info(stored);
    const data = weights.read(stored, options);
    if (shape.length === 1) addOffset(this.#checkpoint.config, name, data);
    return scaled(data, shape.length === 1 ? 1 : shape[1] ?? 1, part(rows, options.rows), columns);
  }

  /** What is no weight of the checkpoint: RoPE's tables and factors. */
  #table(name: string): Float32Array | undefined {
    const rope = /^rope\.(cos|sin)(\d*)$/.exec(name);
    if (rope !== null) return this.#ropes[Number(rope[2])]()[rope[1] as "cos" | "sin"];
    const factor = /^lotr\.(\d+)\.([ab])\.(.+)$/.exec(name);
    return factor === null
      ? undefined
      : this.#factor(Number(factor[1]), factor[2] === "a", factor[3]);
  }

  /** Blocks as the checkpoint stores them, where folding changes whole rows at most. */
  blocks(name: string): StoredBlocks | undefined {
    const { rows, columns } = this.#scales(name);
    const stored = this.#stored(name);
    const { weights } = this.#checkpoint;
    const blocks = columns === undefined && weights.has(stored)
      ? weights.blocks(stored)
      : undefined;
    if (blocks === undefined || rows === undefined) return blocks;
    const perRow = (weights.info(stored).shape[1] ?? 0) / blocks.size;
    return {
      ...blocks,
      read: () => {
        const { q, scales, offsets } = blocks.read();
        return {
          q,
          scales: scaled(scales, perRow, rows, undefined),
          offsets: offsets && scaled(offsets, perRow, rows, undefined),
        };
      },
    };
  }

  /** A tied head is the embedding. */
  #stored(name: string): string {
    return name === names.head && this.#checkpoint.config.tieEmbeddings ? names.embedding : name;
  }

  #scales(name: string): Scales {
    const { config } = this.#checkpoint;
    if (name === names.head) return { rows: undefined, columns: this.#smoothing?.head };
    if (name === names.embedding) {
      return { rows: filled(config.vocabSize, config.embeddingScale), columns: undefined };
    }
    if (name === names.norm) {
      const rows = times(inverse(this.#smoothing?.head), config.logitScale, config.hiddenSize);
      return { rows, columns: undefined };
    }
    const match = /^model\.layers\.(\d+)\.(?:\w+\.)?(\w+)\.(weight|bias)$/.exec(name);
    if (match === null) return { rows: undefined, columns: undefined };
    const [, layer, part, what] = match;
    const smooth = this.#smoothing?.layers[Number(layer)];
    if (part === "q_norm") {
      const { headDim, numHeads, qkNorm, attentionScale } = config;
      const width = qkNorm === "whole" ? numHeads * headDim : headDim;
      return { rows: filled(width, attentionScale), columns: undefined };
    }
    const { beforeAttention, beforeMlp } = config.norms;
    if (part === beforeAttention) return { rows: inverse(smooth?.attn_in), columns: undefined };
    if (part === beforeMlp) return { rows: inverse(smooth?.mlp_in), columns: undefined };
    if (!(part in SITE_OF)) return { rows: undefined, columns: undefined };
    const module = part as ModuleName;
    const columns = what === "weight" ? smooth?.[SITE_OF[module]] : undefined;
    return { rows: this.#outputScale(Number(layer), module), columns };
  }

  /** What a module's outputs are multiplied by. */
  #outputScale(layer: number, module: ModuleName): ArrayLike<number> | undefined {
    const { config } = this.#checkpoint;
    const smooth = this.#smoothing?.layers[layer];
    switch (module) {
      case "q_proj":
        return config.qkNorm === "none"
          ? filled(config.numHeads * config.headDim, config.attentionScale)
          : undefined;
      case "v_proj":
        return smooth && inverse(perKvChannel(smooth.attn_out, config));
      case "up_proj":
        return inverse(smooth?.mlp_mid);
      case "o_proj":
      case "down_proj":
        return filled(config.hiddenSize, config.residualScale);
      default:
        return undefined;
    }
  }

  /** What a layer's A is multiplied by, row by row (of a site), or its B, column by column. */
  factorScale(layer: number, of: SiteName | ModuleName): ArrayLike<number> | undefined {
    return of in SITE_OF
      ? this.#outputScale(layer, of as ModuleName)
      : this.#smoothing?.layers[layer]?.[of as SiteName];
  }

  #factor(layer: number, isA: boolean, name: string): Float32Array {
    const hook = this.#hook;
    if (hook === undefined) throw new TypeError(`internal: factor ${name} without a hook`);
    if (isA) {
      const site = name as SiteName;
      return scaled(hook.a(site), hook.rank, this.factorScale(layer, site), undefined);
    }
    const module = name as ModuleName;
    const b = hook.b(module);
    return scaled(b, b.length / hook.rank, undefined, this.factorScale(layer, module));
  }
}

/** A norm's weights as they multiply. */
function addOffset({ normOffset }: DecoderConfig, name: string, gamma: Float32Array): void {
  if (normOffset === 0 || name.endsWith(".bias")) return;
  for (let i = 0; i < gamma.length; i++) gamma[i] += normOffset;
}

/**
 * Folds into one tensor, in place, what a graph whose weights are inputs cannot compute: all that is
 * folded into parameters but attention's scale and channel scales.
 */
export function foldPlain(config: DecoderConfig, name: string, data: Float32Array): void {
  if (name.endsWith("norm.weight")) addOffset(config, name, data);
  if (config.residualScale === 1 || !/\.(?:o|down)_proj\./.test(name)) return;
  for (let i = 0; i < data.length; i++) data[i] *= config.residualScale;
}

/**
 * Scales of the o projection's inputs, given per query head, as scales of v's outputs: heads that
 * share a key-value head share its scale (`smooth.ts` makes them equal).
 */
function perKvChannel(scales: Float32Array, config: DecoderConfig): Float32Array {
  const { headDim, numKvHeads, numHeads } = config;
  const group = numHeads / numKvHeads;
  const out = new Float32Array(numKvHeads * headDim);
  for (let i = 0; i < out.length; i++) {
    out[i] = scales[Math.floor(i / headDim) * group * headDim + i % headDim];
  }
  return out;
}

/** data[r][c] · rows[r] · columns[c]. */
function scaled(
  data: Float32Array,
  width: number,
  rows: ArrayLike<number> | undefined,
  columns: ArrayLike<number> | undefined,
): Float32Array {
  if (rows === undefined && columns === undefined) return data;
  const out = new Float32Array(data.length);
  for (let r = 0; r * width < data.length; r++) {
    const start = r * width;
    const row = rows?.[r] ?? 1;
    if (columns === undefined) {
      for (let i = start; i < start + width; i++) out[i] = data[i] * row;
    } else {
      for (let c = 0; c < width; c++) out[start + c] = data[start + c] * row * columns[c];
    }
  }
  return out;
}

/** The multipliers of some rows. */
function part(
  all: ArrayLike<number> | undefined,
  rows: Rows | undefined,
): ArrayLike<number> | undefined {
  if (all === undefined || rows === undefined) return all;
  return Array.prototype.slice.call(all, rows.first, rows.first + rows.count);
}

function inverse(scales: Float32Array | undefined): Float32Array | undefined {
  return scales?.map((scale) => 1 / scale);
}

/** Undefined for all ones. */
function filled(length: number, value: number): Float32Array | undefined {
  return value === 1 ? undefined : new Float32Array(length).fill(value);
}

/** Scales, or ones, times a factor. */
function times(
  scales: Float32Array | undefined,
  factor: number,
  length: number,
): Float32Array | undefined {
  return scales === undefined ? filled(length, factor) : scales.map((scale) => scale * factor);
}
