/**
 * A core merged into dense weights, `W' = W + s·A·G·B`, in Hugging Face's layout [d_out, d_in]: as
 * a view over another weight source, or as a safetensors file of the merged tensors.
 */
import type {
  ReadOptions,
  Rows,
  WeightInfo,
  WeightSource,
} from "../../src/checkpoint/checkpoint.ts";
import { partOf } from "../../src/checkpoint/rows.ts";
import { float32Tensor, writeSafetensors } from "../../src/checkpoint/formats/safetensors.ts";
import type { StoredBlocks } from "../../src/util/blocks.ts";
import type { Core } from "./core.ts";
import type { FactorSet } from "./factors.ts";
import { dense, multiply, scaled, transpose } from "./linalg.ts";
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
    const place = this.#adapted.get(name);
    if (place === undefined) return this.#source.read(name, options);
    const weight = this.#source.read(name);
    addDelta(weight, this.#core, this.#factors, place);
    return partOf(name, this.info(name), weight, options);
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

/**
 * A safetensors file with the merged tensors only, in float32, under Hugging Face's names.
 * @throws {TypeError | RangeError} where core, factors and weights do not fit each other
 *
 * @example
 * ```ts
 * import { mergedSafetensors, openCheckpoint, randomFactors, stackOf, zeroCore } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * const stack = stackOf(await checkpoint.digest(), checkpoint.config);
 * const factors = randomFactors({ stack, rank: 4 });
 * const bytes = mergedSafetensors(checkpoint.weights, zeroCore(factors), factors);
 * console.assert(bytes.length > 0);
 * checkpoint.close();
 * ```
 */
export function mergedSafetensors(
  source: WeightSource,
  core: Core,
  factors: FactorSet,
): Uint8Array<ArrayBuffer> {
  const merged = new MergedWeights(source, core, factors);
  return writeSafetensors(
    merged.merged().map((name) =>
      [name, float32Tensor(merged.info(name).shape, merged.read(name))] as const
    ),
    [["format", "pt"], ["base", core.base], ["core", core.digest]],
  );
}

/**
 * s·A·G·B of one linear as Hugging Face lays weights out.
 * @returns [d_out, d_in], row major
 */
export function deltaWeight(core: Core, factors: FactorSet, place: Place): Float64Array {
  const module = core.modules[place.module];
  if (module === undefined) throw new RangeError(`Cannot merge module ${place.module} of a core`);
  const { a, b } = truncated(factors, module, core.rank);
  const g = dense(core.rank, core.rank, core.matrix(place.layer, place.module));
  return transpose(multiply(multiply(a, scaled(g, core.scale)), b)).data;
}

/** A linear by layer and by its place in the core's `modules`. */
export interface Place {
  readonly layer: number;
  readonly module: number;
}

function addDelta(weight: Float32Array, core: Core, factors: FactorSet, place: Place): void {
  const delta = deltaWeight(core, factors, place);
  if (delta.length !== weight.length) {
    throw new RangeError(
      `Cannot merge ${core.modules[place.module]}: the weight has ${weight.length} elements, ` +
        `the factors make ${delta.length}`,
    );
  }
  delta.forEach((value, i) => weight[i] += value);
}

function placesOf(core: Core): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  for (let layer = 0; layer < core.layers; layer++) {
    core.modules.forEach((name, module) => places.set(weightName(layer, name), { layer, module }));
  }
  return places;
}
