/**
 * Makers of factor sets: `random`, `gaussian` (the paper's) and `svd`. They own how A and B come
 * about; files and flags are `server/factors.ts`', training data have no part here.
 */
import type { WeightSource } from "../src/checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF, type SiteName, SITES } from "../src/models/hook.ts";
import { FactorSet } from "./factors.ts";
import {
  addGram,
  type Dense,
  dense,
  leadingEigenvectors,
  orthonormal,
  transpose,
} from "./linalg.ts";
import { gaussian } from "./random.ts";
import {
  checkRank,
  DEFAULT_MODULES,
  DEFAULT_RANK,
  parseModules,
  sitesOf,
  type Stack,
  weightName,
} from "./stack.ts";

export const MAKERS = ["random", "gaussian", "svd"] as const;
export type MakerName = typeof MAKERS[number];

export interface MakerOptions {
  readonly stack: Stack;
  /** 1 to 64, and at most the narrowest adapted input or output. Default 32. */
  readonly rank?: number;
  /** Default q_proj and v_proj. */
  readonly modules?: readonly ModuleName[];
}

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
 */
export function randomFactors(options: RandomOptions): FactorSet {
  const { stack, rank, modules } = settle(options);
  return assemble(
    stack,
    rank,
    modules,
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
  const { stack, rank, modules } = settle(options);
  return assemble(
    stack,
    rank,
    modules,
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
 */
export function svdFactors(options: SvdOptions): FactorSet {
  const { stack, rank, modules } = settle(options);
  const { weights, progress = () => {} } = options;
  const sites = sitesOf(modules);
  const total = modules.length * stack.layers + sites.length + modules.length;
  let done = 0;
  const inputs = new Map(sites.map((site) => [site, square(stack.inputs[site])]));
  const outputs = new Map(modules.map((module) => [module, square(stack.outputs[module])]));
  for (const module of modules) {
    for (let layer = 0; layer < stack.layers; layer++) {
      const name = weightName(layer, module);
      const w = dense(
        stack.outputs[module],
        stack.inputs[SITE_OF[module]],
        weights.read(name),
      );
      addGram(wanted(inputs, SITE_OF[module]), w, "columns");
      addGram(wanted(outputs, module), w, "rows");
      progress(++done, total, name);
    }
  }
  const lead = (what: string, sum: Dense) => {
    const { vectors } = leadingEigenvectors(sum, rank);
    progress(++done, total, what);
    return vectors;
  };
  return assemble(
    stack,
    rank,
    modules,
    rank,
    (site) => lead(`A.${site}`, wanted(inputs, site)),
    (module) => transpose(lead(`B.${module}`, wanted(outputs, module))),
  );
}

function settle(options: MakerOptions) {
  const { stack, rank = DEFAULT_RANK } = options;
  const modules = parseModules(options.modules ?? DEFAULT_MODULES);
  checkRank(rank);
  for (const module of modules) {
    const narrow = Math.min(stack.inputs[SITE_OF[module]], stack.outputs[module]);
    if (rank > narrow) {
      throw new RangeError(`Cannot use rank ${rank}: ${module} has only width ${narrow}`);
    }
  }
  return { stack, rank, modules };
}

function assemble(
  stack: Stack,
  rank: number,
  modules: readonly ModuleName[],
  alpha: number,
  a: (site: SiteName) => Dense,
  b: (module: ModuleName) => Dense,
): FactorSet {
  return new FactorSet({
    base: stack.base,
    layers: stack.layers,
    rank,
    alpha,
    modules,
    a: new Map(sitesOf(modules).map((site) => [site, Float32Array.from(a(site).data)])),
    b: new Map(modules.map((module) => [module, Float32Array.from(b(module).data)])),
  });
}

function draw({ seed = 0 }: RandomOptions, rows: number, columns: number, stream: number): Dense {
  return dense(rows, columns, gaussian(seed, stream, rows * columns));
}

/** Streams do not depend on which modules are adapted: q's B is the same with or without v. */
function streamOf(name: ModuleName | SiteName): number {
  return [...SITES, ...MODULES].indexOf(name);
}

function square(n: number): Dense {
  return { rows: n, columns: n, data: new Float64Array(n * n) };
}

function wanted<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new TypeError(`internal: nothing for ${key}`);
  return value;
}
