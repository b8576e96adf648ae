/**
 * Makers of factor sets that need no text: `random`, `gaussian` (the paper's) and `svd`. `gradient`
 * has a file of its own.
 */
import type { WeightSource } from "../../../src/checkpoint/checkpoint.ts";
import {
  type ModuleName,
  MODULES,
  SITE_OF,
  type SiteName,
  SITES,
} from "../../../src/models/hook.ts";
import { assemble, type MakerOptions, settle } from "./assemble.ts";
import type { FactorSet } from "../factors.ts";
import { type Dense, dense, orthonormal, transpose } from "../linalg.ts";
import { gaussian } from "../../../src/util/random.ts";
import { weightName } from "../stack.ts";
import { tuckerFactors, TuckerSums } from "./tucker.ts";

export type { MakerOptions } from "./assemble.ts";

export const MAKERS = ["gradient", "random", "gaussian", "svd"] as const;
export type MakerName = typeof MAKERS[number];

export interface RandomOptions extends MakerOptions {
  /** A 32-bit number. Default 0. */
  readonly seed?: number;
}

export interface SvdOptions extends MakerOptions {
  readonly weights: WeightSource;
  /** Called after each weight read and each decomposition, `done` of `total`. */
  readonly progress?: (done: number, total: number, what: string) => void;
}

/**
 * A and B of orthonormal columns and rows that span a Gaussian's, s = 1.
 * @throws {RangeError} for a rank that is not possible
 *
 * @example
 * ```ts
 * import { openCheckpoint, randomFactors, stackOf } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * const stack = stackOf(await checkpoint.digest(), checkpoint.config);
 * const factors = randomFactors({ stack, rank: 8, seed: 1 });
 * console.assert(factors.rank === 8);
 * checkpoint.close();
 * ```
 */
export function randomFactors(options: RandomOptions): FactorSet {
  const settled = settle(options);
  const { stack, rank } = settled;
  return assemble(
    settled,
    rank,
    (site) => orthonormal(draw(options, stack.inputs[site], rank, streamOf(site))),
    (module) =>
      transpose(orthonormal(draw(options, stack.outputs[module], rank, streamOf(module)))),
  );
}

/**
 * The initialisation of LoTR's paper (arXiv 2402.01376): A, B ~ N(0, 1), s = 1 / rank.
 * @throws {RangeError} for a rank that is not possible
 */
export function gaussianFactors(options: RandomOptions): FactorSet {
  const settled = settle(options);
  const { stack, rank } = settled;
  return assemble(
    settled,
    1,
    (site) => draw(options, stack.inputs[site], rank, streamOf(site)),
    (module) => draw(options, rank, stack.outputs[module], streamOf(module)),
  );
}

/**
 * Tucker-2 by higher-order SVD of the stacked weights: A = the leading eigenvectors of Σ W·Wᵀ over
 * all layers and the modules of a site (W as [d_in, d_out]), B of Σ Wᵀ·W over all layers of a
 * module; columns and rows by falling energy, s = 1.
 *
 * @throws {RangeError} for a rank that is not possible, or a weight that the source does not have
 *
 * @example
 * ```ts
 * import { openCheckpoint, stackOf, svdFactors } from "@lembas/lembas";
 *
 * const checkpoint = await openCheckpoint("tests/fixtures/models/llama");
 * const stack = stackOf(await checkpoint.digest(), checkpoint.config);
 * const factors = svdFactors({ stack, rank: 8, weights: checkpoint.weights });
 * console.assert(factors.base === stack.base);
 * checkpoint.close();
 * ```
 */
export function svdFactors(options: SvdOptions): FactorSet {
  const settled = settle(options);
  const { stack, modules } = settled;
  const { weights, progress = () => {} } = options;
  const sums = new TuckerSums(stack, modules);
  const total = modules.length * stack.layers + sums.count;
  let done = 0;
  for (const module of modules) {
    for (let layer = 0; layer < stack.layers; layer++) {
      const name = weightName(layer, module);
      const w = dense(stack.outputs[module], stack.inputs[SITE_OF[module]], weights.read(name));
      sums.add(module, transpose(w));
      progress(++done, total, name);
    }
  }
  return tuckerFactors(settled, sums, (name) => progress(++done, total, name));
}

function draw({ seed = 0 }: RandomOptions, rows: number, columns: number, stream: number): Dense {
  return dense(rows, columns, gaussian(seed, stream, rows * columns));
}

/** Streams do not depend on which modules are adapted: q's B is the same with or without v. */
function streamOf(name: ModuleName | SiteName): number {
  return [...SITES, ...MODULES].indexOf(name);
}
