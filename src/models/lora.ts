/**
 * LoRA (arXiv 2106.09685) as a model serves it: what an adapter adds to linears, `scale · x·Aᵀ·Bᵀ`,
 * cut into pieces of one rank, so that adapters of any rank lie side by side and each pays for its
 * own. A piece of a linear is A [d_in, 8] and B [8, d_out], scale and the base's folding in B and A.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF, type SiteName } from "./hook.ts";
import { inputsOf, outputsOf } from "./widths.ts";

/** Rank of a piece: what LoRAs' usual ranks are multiples of. */
export const PIECE_RANK = 8;

/** The linear that a LoRA adapts, and at what rank. */
export interface LoraPlace {
  readonly layer: number;
  readonly module: ModuleName;
  readonly rank: number;
}

/** What a LoRA adds to one linear: `y += scale · (x · aᵀ) · bᵀ`. */
export interface LoraLinear extends LoraPlace {
  readonly scale: number;
  /** [rank, d_in], as PEFT has it. */
  readonly a: Float32Array;
  /** [d_out, rank]. */
  readonly b: Float32Array;
}

/** The highest rank of each module that a LoRA adapts: what it takes of memory is known by these. */
export type LoraRanks = Readonly<Partial<Record<ModuleName, number>>>;

export interface Lora {
  /** SHA-256 of its file, hex. */
  readonly digest: string;
  readonly linears: readonly LoraLinear[];
}

/** Pieces that a LoRA has of a module, in every layer. */
export interface LoraModule {
  readonly module: ModuleName;
  readonly pieces: number;
}

/** A LoRA as a lane wants it. */
export interface ResidentLora {
  readonly digest: string;
  /** In the order of `MODULES`. */
  readonly modules: readonly LoraModule[];
  /** By module, layer and piece: A [d_in, 8], then B [8, d_out]; zeros where a layer has none. */
  readonly data: Float32Array;
}

/** How a layer's branch is scaled: A's rows by its site's name, B's columns by the module's. */
export type FactorScale = (
  layer: number,
  of: SiteName | ModuleName,
) => ArrayLike<number> | undefined;

/** Bytes of a LoRA of these ranks as a lane wants it. */
export function residentLoraBytes(config: DecoderConfig, ranks: LoraRanks): number {
  const numbers = modulesIn(ranks).reduce(
    (sum, { module, pieces }) => sum + config.numLayers * pieces * pieceSize(config, module),
    0,
  );
  return numbers * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * @throws {TypeError | RangeError} naming the linear that the base has not, or in another width
 */
export function toResidentLora(
  { digest, linears }: Lora,
  config: DecoderConfig,
  scaleOf: FactorScale,
): ResidentLora {
  for (const linear of linears) checkLinear(config, linear);
  const ranks = ranksOf(linears);
  const modules = modulesIn(ranks);
  const bytes = residentLoraBytes(config, ranks);
  const data = new Float32Array(bytes / Float32Array.BYTES_PER_ELEMENT);
  let start = 0;
  for (const { module, pieces } of modules) {
    const size = pieces * pieceSize(config, module);
    for (const linear of linears) {
      if (linear.module !== module) continue;
      const to = data.subarray(start + linear.layer * size, start + (linear.layer + 1) * size);
      layOut(linear, config, scaleOf, to);
    }
    start += config.numLayers * size;
  }
  return { digest, modules, data };
}

/** Where a piece's numbers are in a LoRA's data. */
export interface PieceRange {
  /** Of layer 0: A, then B. */
  readonly start: number;
  /** From layer to layer. */
  readonly stride: number;
  /** Numbers of A. */
  readonly aSize: number;
}

/** Undefined where the LoRA has no such piece of the module. */
export function pieceRange(
  config: DecoderConfig,
  { modules }: ResidentLora,
  module: ModuleName,
  piece: number,
): PieceRange | undefined {
  let start = 0;
  for (const { module: each, pieces } of modules) {
    const size = pieceSize(config, each);
    if (each === module) {
      if (piece >= pieces) return undefined;
      const aSize = PIECE_RANK * inputsOf(config, SITE_OF[module]);
      return { start: start + piece * size, stride: pieces * size, aSize };
    }
    start += config.numLayers * pieces * size;
  }
  return undefined;
}

/** Numbers of a piece of a module. */
function pieceSize(config: DecoderConfig, module: ModuleName): number {
  return PIECE_RANK * (inputsOf(config, SITE_OF[module]) + outputsOf(config, module));
}

/** The highest of each module's ranks. */
export function ranksOf(places: readonly LoraPlace[]): LoraRanks {
  const ranks: { -readonly [M in keyof LoraRanks]: LoraRanks[M] } = {};
  for (const { module, rank } of places) ranks[module] = Math.max(rank, ranks[module] ?? 0);
  return ranks;
}

function modulesIn(ranks: LoraRanks): readonly LoraModule[] {
  return MODULES.flatMap((module) => {
    const pieces = Math.ceil((ranks[module] ?? 0) / PIECE_RANK);
    return pieces === 0 ? [] : [{ module, pieces }];
  });
}

function checkLinear(config: DecoderConfig, { layer, module, rank, a, b }: LoraLinear): void {
  if (!(layer >= 0 && layer < config.numLayers)) {
    throw new RangeError(
      `Cannot use LoRA: it adapts layer ${layer}, the base has ${config.numLayers} layers`,
    );
  }
  const [inputs, outputs] = [inputsOf(config, SITE_OF[module]), outputsOf(config, module)];
  if (a.length === rank * inputs && b.length === rank * outputs) return;
  throw new TypeError(
    `Cannot use LoRA: ${module} of layer ${layer} goes ${a.length / rank}→${b.length / rank}, ` +
      `the base's ${inputs}→${outputs}`,
  );
}

/** Writes the pieces of one linear. */
function layOut(
  { layer, module, rank, scale, a, b }: LoraLinear,
  config: DecoderConfig,
  scaleOf: FactorScale,
  to: Float32Array,
): void {
  const [inputs, outputs] = [a.length / rank, b.length / rank];
  const rows = scaleOf(layer, SITE_OF[module]);
  const columns = scaleOf(layer, module);
  const size = pieceSize(config, module);
  for (let r = 0; r < rank; r++) {
    const start = Math.floor(r / PIECE_RANK) * size;
    const at = r % PIECE_RANK;
    for (let i = 0; i < inputs; i++) {
      to[start + i * PIECE_RANK + at] = a[r * inputs + i] * (rows?.[i] ?? 1);
    }
    const row = start + inputs * PIECE_RANK + at * outputs;
    for (let o = 0; o < outputs; o++) {
      to[row + o] = scale * b[o * rank + r] * (columns?.[o] ?? 1);
    }
  }
}
