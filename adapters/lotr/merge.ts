/**
 * A core merged into dense weights, `W' = W + s·A·G·B`, in Hugging Face's layout [d_out, d_in]: as
 * a view over another weight source, or as a safetensors file of the merged tensors. Both work on the
 * rows that are asked for and no others.
 */
import type {
  ReadOptions,
  Rows,
  WeightInfo,
  WeightSource,
} from "../../src/checkpoint/checkpoint.ts";
import { rowsWithin } from "../../src/checkpoint/rows.ts";
import { safetensorsStart } from "../../src/checkpoint/formats/safetensors.ts";
import type { StoredBlocks } from "../../src/util/blocks.ts";
import type { Core } from "./core.ts";
import type { FactorSet } from "./factors.ts";
import { type Dense, dense, multiply, scaled, transpose } from "./linalg.ts";
import { truncated } from "./peft/peft_export.ts";
import { weightName } from "./stack.ts";

/**
 * The weights of `source` with the core merged into the linears it adapts, which become F32; all
 * others pass through. Nothing is kept: each read computes anew.
 */
export class MergedWeights implements WeightSource {
  readonly #source: WeightSource;
  readonly #core: Core;
  readonly #factors: FactorSet;
  readonly #adapted: ReadonlyMap<string, Place>;

  /** @throws {TypeError} where the core is not made for these factors. */
  constructor(source: WeightSource, core: Core, factors: FactorSet) {
    core.checkFactors(factors);
    this.#source = source;
    this.#core = core;
    this.#factors = factors;
    this.#adapted = placesOf(core);
  }

  names(): readonly string[] {
    return this.#source.names();
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  info(name: string): WeightInfo {
    const info = this.#source.info(name);
    return this.#adapted.has(name) ? { ...info, type: "F32" } : info;
  }

  read(name: string, options: ReadOptions = {}): Float32Array {
    const weight = this.#source.read(name, options);
    const place = this.#adapted.get(name);
    if (place === undefined) return weight;
    const rows = rowsWithin(name, this.info(name), options.rows);
    const delta = new DeltaRows(this.#core, this.#factors, place);
    delta.addTo(weight, rows);
    return weight;
  }

  readRaw(name: string, rows?: Rows): Uint8Array {
    if (!this.#adapted.has(name)) return this.#source.readRaw(name, rows);
    const { buffer, byteOffset, byteLength } = this.read(name, rows && { rows });
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  blocks(name: string): StoredBlocks | undefined {
    return this.#adapted.has(name) ? undefined : this.#source.blocks(name);
  }

  /** Names of the merged linears, layer by layer. */
  merged(): readonly string[] {
    return [...this.#adapted.keys()];
  }
}

/** Rows of a merged tensor that are made together. */
const ROWS = 256;

/**
 * A safetensors file with the merged tensors only, in float32, under Hugging Face's names: in pieces,
 * made as they are read, since the whole is as large as the adapted linears in float32.
 * @throws {TypeError | RangeError} where core, factors and weights do not fit each other
 *
 * @example
 * ```ts
 * import { mergedSafetensors, openCheckpoint, randomFactors, stackOf, zeroCore } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * const stack = stackOf(await checkpoint.digest(), checkpoint.config);
 * const factors = randomFactors({ stack, rank: 4 });
 * const file = mergedSafetensors(checkpoint.weights, zeroCore(factors), factors);
 * await Deno.writeFile(await Deno.makeTempFile(), file);
 * checkpoint.close();
 * ```
 */
export function mergedSafetensors(
  source: WeightSource,
  core: Core,
  factors: FactorSet,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const merged = new MergedWeights(source, core, factors);
  return ReadableStream.from(piecesOf(merged, [["base", core.base], ["core", core.digest]]));
}

function* piecesOf(merged: MergedWeights, names: readonly (readonly [string, string])[]) {
  const tensors = merged.merged().map((name) =>
    [name, { dtype: "F32", shape: merged.info(name).shape }] as const
  );
  const { start, order } = safetensorsStart(tensors, [["format", "pt"], ...names]);
  yield start;
  for (const name of order) {
    const [rows = 0] = merged.info(name).shape;
    for (let first = 0; first < rows; first += ROWS) {
      const part = merged.read(name, { rows: { first, count: Math.min(ROWS, rows - first) } });
      yield new Uint8Array(part.buffer as ArrayBuffer, part.byteOffset, part.byteLength);
    }
  }
}

/** A linear by layer and by its place in the core's `modules`. */
interface Place {
  readonly layer: number;
  readonly module: number;
}

/** Rows of s·(A·G·B)ᵀ of one linear, [d_out, d_in] as Hugging Face lays weights out. */
class DeltaRows {
  readonly #name: string;
  /** s·(A·G)ᵀ, [k, d_in]. */
  readonly #left: Dense;
  /** B, [k, d_out]. */
  readonly #b: Dense;

  constructor(core: Core, factors: FactorSet, place: Place) {
    const module = core.modules[place.module];
    if (module === undefined) throw new RangeError(`Cannot merge module ${place.module} of a core`);
    const { a, b } = truncated(factors, module, core.rank);
    const g = dense(core.rank, core.rank, core.matrix(place.layer, place.module));
    this.#name = module;
    this.#left = transpose(multiply(a, scaled(g, core.scale)));
    this.#b = b;
  }

  /** @throws {RangeError} where `weight` is not as many rows of this linear */
  addTo(weight: Float32Array, { first, count }: Rows): void {
    const [left, b] = [this.#left, this.#b];
    const width = left.columns;
    if (weight.length !== count * width || first + count > b.columns) {
      throw new RangeError(
        `Cannot merge ${this.#name}: rows ${first} to ${first + count - 1} of the weight have ` +
          `${weight.length} elements, the factors make [${b.columns}, ${width}]`,
      );
    }
    const sum = new Float64Array(width);
    for (let row = 0; row < count; row++) {
      sum.fill(0);
      for (let k = 0; k < left.rows; k++) {
        const by = b.data[k * b.columns + first + row];
        for (let i = 0; i < width; i++) sum[i] += left.data[k * width + i] * by;
      }
      for (let i = 0; i < width; i++) weight[row * width + i] += sum[i];
    }
  }
}

function placesOf(core: Core): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  for (let layer = 0; layer < core.layers; layer++) {
    core.modules.forEach((name, module) => places.set(weightName(layer, name), { layer, module }));
  }
  return places;
}
