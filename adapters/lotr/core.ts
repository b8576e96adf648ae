/**
 * Cores: the r × r matrices of every layer and adapted linear, the only part that belongs to one
 * tenant, and their algebra. All values are immutable.
 */
import type { ResidentCore } from "../../src/executor/model.ts";
import type { ModuleName } from "../../src/models/hook.ts";
import { FieldError } from "../../src/util/errors.ts";
import {
  checkAlpha,
  checkDigest,
  checkFinite,
  checkRank,
  contentDigest,
  parseModules,
} from "./stack.ts";
import type { FactorSet, FactorShape } from "./factors.ts";

export const CORE_FORMAT = "lembas.core/1";

export interface CoreInit {
  /** SHA-256 of the base checkpoint, hex. */
  readonly base: string;
  /** SHA-256 of the factor set, hex. */
  readonly factors: string;
  /** k, at most the factor set's rank: the first k columns of A and rows of B are used. */
  readonly rank: number;
  /** Scale of the branch is alpha / rank; default: rank, so 1. */
  readonly alpha?: number;
  readonly modules: readonly ModuleName[];
  /** [layers, modules, rank, rank], row major. */
  readonly cores: Float32Array;
}

/**
 * One tenant's core, named by the digest of its content.
 *
 * @example
 * ```ts
 * import { readCore } from "@lembas/lembas";
 *
 * const core = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const [query] = core.modules;
 * const g = core.matrix(0, 0);
 * console.assert(query === "q_proj" && g.length === core.rank ** 2);
 * ```
 */
export class Core {
  readonly digest: string;
  readonly base: string;
  readonly factors: string;
  readonly layers: number;
  readonly rank: number;
  readonly alpha: number;
  readonly modules: readonly ModuleName[];
  /** [layers, modules, rank, rank], row major; not to be changed. */
  readonly cores: Float32Array;

  /**
   * Takes the array over: the caller must not change it any more.
   * @throws {RangeError | TypeError} for a rank, alpha, module list, shape or element that cannot be.
   */
  constructor(init: CoreInit) {
    checkDigest("the core's base", init.base);
    checkDigest("the core's factor set", init.factors);
    checkRank(init.rank);
    checkAlpha(init.alpha ?? init.rank);
    this.base = init.base;
    this.factors = init.factors;
    this.rank = init.rank;
    this.alpha = init.alpha ?? init.rank;
    this.modules = parseModules(init.modules);
    this.layers = init.cores.length / (this.modules.length * this.rank ** 2);
    if (!Number.isInteger(this.layers) || this.layers < 1) {
      throw new TypeError(
        `Cannot make a core: ${init.cores.length} elements are no ` +
          `[layers, ${this.modules.length}, ${this.rank}, ${this.rank}]`,
      );
    }
    checkFinite("the core", init.cores);
    this.cores = init.cores;
    this.digest = contentDigest(coreFields(this), [this.cores]);
  }

  /** s of y = x·W + s·x·A·G·B. */
  get scale(): number {
    return this.alpha / this.rank;
  }

  /** G of a layer and a module (by its place in `modules`), [rank, rank]: a view. */
  matrix(layer: number, module: number): Float32Array {
    const size = this.rank ** 2;
    const at = (layer * this.modules.length + module) * size;
    return this.cores.subarray(at, at + size);
  }

  /** The same core with other values: alpha, factors and shape are kept. */
  with(cores: Float32Array): Core {
    const { base, factors, rank, alpha, modules } = this;
    return new Core({ base, factors, rank, alpha, modules, cores });
  }

  /**
   * @throws {FieldError} naming both digests or shapes where the core is not made for these factors.
   */
  checkFactors(factors: FactorShape): void {
    const fault = this.base !== factors.base
      ? `its base is ${this.base}, the factor set's is ${factors.base}`
      : this.factors !== factors.digest
      ? `its factor set is ${this.factors}, not ${factors.digest}`
      : this.layers !== factors.layers || this.modules.join() !== factors.modules.join()
      ? `its shape is ${this.layers} layers of [${this.modules}], ` +
        `the factor set's is ${factors.layers} layers of [${factors.modules}]`
      : this.rank > factors.rank
      ? `its rank is ${this.rank}, the factor set has ${factors.rank}`
      : undefined;
    if (fault === undefined) return;
    throw new FieldError("core", `Cannot use core ${this.digest}: ${fault}`);
  }
}

function coreFields(core: Core) {
  const { base, factors, layers, rank, alpha, modules } = core;
  return { format: CORE_FORMAT, base, factors, layers, rank, alpha, modules };
}

/**
 * G = 0: leaves the base exactly as it is. Rank defaults to the factor set's, s to its scale.
 *
 * @example
 * ```ts
 * import { readFactors, zeroCore } from "@lembas/lembas";
 *
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * const core = zeroCore(factors, 8);
 * console.assert(core.rank === 8 && core.cores.every((x) => x === 0));
 * ```
 */
export function zeroCore(factors: FactorSet, rank: number = factors.rank): Core {
  return coreFrom(
    factors,
    rank,
    new Float32Array(factors.layers * factors.modules.length * rank ** 2),
  );
}

/** A core of this factor set with its scale alpha / rank, whatever the core's own rank. */
export function coreFrom(factors: FactorSet, rank: number, cores: Float32Array): Core {
  checkRank(rank, factors.rank);
  const { base, digest, modules } = factors;
  const alpha = factors.alpha * rank / factors.rank;
  const core = new Core({ base, factors: digest, rank, alpha, modules, cores });
  core.checkFactors(factors);
  return core;
}

/**
 * The engine's layout [layers][R][modules × R], R the factor set's rank: padded with zeros, the
 * scale folded in.
 * @throws {TypeError} where the core is not made for these factors.
 */
export function toResident(core: Core, factors: FactorShape): ResidentCore {
  core.checkFactors(factors);
  const { rank: k, modules, layers, scale, cores } = core;
  const width = modules.length * factors.rank;
  const data = new Float32Array(layers * factors.rank * width);
  let from = 0;
  for (let layer = 0; layer < layers; layer++) {
    for (let module = 0; module < modules.length; module++) {
      for (let row = 0; row < k; row++) {
        const to = (layer * factors.rank + row) * width + module * factors.rank;
        for (let column = 0; column < k; column++) data[to + column] = scale * cores[from++];
      }
    }
  }
  return { digest: core.digest, data };
}

/**
 * The mean of cores, their scales taken into account.
 *
 * @example
 * ```ts
 * import { average, readCore } from "@lembas/lembas";
 *
 * const shelf = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const order = readCore(await Deno.readFile("tests/fixtures/adapters/order.safetensors"));
 * const both = average([shelf, order]);
 * console.assert(both.factors === shelf.factors);
 * ```
 */
export function average(cores: readonly Core[]): Core {
  return combine(cores.map((core) => [core, 1 / cores.length]));
}

/**
 * (1 - t)·from + t·to: 0 gives `from`, 1 gives `to`; values outside extrapolate.
 *
 * @example
 * ```ts
 * import { interpolate, readCore } from "@lembas/lembas";
 *
 * const shelf = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const order = readCore(await Deno.readFile("tests/fixtures/adapters/order.safetensors"));
 * const half = interpolate(shelf, order, 0.5);
 * console.assert(half.rank === shelf.rank);
 * ```
 */
export function interpolate(from: Core, to: Core, t: number): Core {
  return combine([[from, 1 - t], [to, t]]);
}

/**
 * The branch made `factor` times as strong.
 *
 * @example
 * ```ts
 * import { readCore, scale } from "@lembas/lembas";
 *
 * const shelf = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const gentle = scale(shelf, 0.5);
 * console.assert(gentle.digest !== shelf.digest);
 * ```
 */
export function scale(core: Core, factor: number): Core {
  return combine([[core, factor]]);
}

/**
 * The core that undoes this one.
 *
 * @example
 * ```ts
 * import { combine, negate, readCore } from "@lembas/lembas";
 *
 * const shelf = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const nothing = combine([[shelf, 1], [negate(shelf), 1]]);
 * console.assert(nothing.cores.every((x) => x === 0));
 * ```
 */
export function negate(core: Core): Core {
  return scale(core, -1);
}

/**
 * The weighted sum of branches: Σ w·s·G, at the largest rank among the cores and the first core's
 * scale.
 * @throws {TypeError} for no core, cores of different factors, or a result that is not finite.
 *
 * @example
 * ```ts
 * import { combine, readCore } from "@lembas/lembas";
 *
 * const shelf = readCore(await Deno.readFile("tests/fixtures/adapters/shelf.safetensors"));
 * const order = readCore(await Deno.readFile("tests/fixtures/adapters/order.safetensors"));
 * const mix = combine([[shelf, 1], [order, -0.25]]);
 * console.assert(mix.rank === Math.max(shelf.rank, order.rank));
 * ```
 */
export function combine(terms: readonly (readonly [Core, number])[]): Core {
  const first = terms[0]?.[0];
  if (first === undefined) throw new TypeError("Cannot combine cores: none is given");
  const rank = Math.max(...terms.map(([core]) => core.rank));
  const sum = new Float64Array(first.layers * first.modules.length * rank ** 2);
  for (const [core, weight] of terms) {
    checkAlike(first, core);
    addPadded(sum, rank, core, weight * core.scale / first.scale);
  }
  const { base, factors, modules } = first;
  const alpha = first.scale * rank;
  return new Core({ base, factors, rank, alpha, modules, cores: Float32Array.from(sum) });
}

function checkAlike(first: Core, other: Core): void {
  const key = (core: Core) =>
    `base ${core.base}, factors ${core.factors}, ${core.layers} layers of [${core.modules}]`;
  if (key(first) !== key(other)) {
    throw new TypeError(`Cannot combine cores: one is of ${key(first)}, another of ${key(other)}`);
  }
}

function addPadded(sum: Float64Array, rank: number, core: Core, weight: number): void {
  let from = 0;
  for (let block = 0; block < core.layers * core.modules.length; block++) {
    for (let row = 0; row < core.rank; row++) {
      const to = (block * rank + row) * rank;
      for (let column = 0; column < core.rank; column++) {
        sum[to + column] += weight * core.cores[from++];
      }
    }
  }
}
