/**
 * Factor sets: A of each input and B of each linear, shared by all layers of a stack and by all
 * tenants (LoTR, arXiv 2402.01376).
 */
import { type LinearHook, type ModuleName, SITE_OF, type SiteName } from "../../src/models/hook.ts";
import { FieldError } from "../../src/util/errors.ts";
import {
  checkAlpha,
  checkDigest,
  checkFinite,
  checkRank,
  contentDigest,
  parseModules,
  shapeText,
  sitesOf,
  type Stack,
} from "./stack.ts";

export const FACTORS_FORMAT = "lembas.factors/1";

export interface FactorSetInit {
  /** SHA-256 of the base checkpoint, hex. */
  readonly base: string;
  /** Layers of the stack: a core's first dimension. */
  readonly layers: number;
  /** 1 to 64. */
  readonly rank: number;
  /** Scale of the branch is alpha / rank; default: rank, so 1. */
  readonly alpha?: number;
  readonly modules: readonly ModuleName[];
  /** [d_in, rank] of each site that the modules read, row major; columns by falling energy. */
  readonly a: ReadonlyMap<SiteName, Float32Array>;
  /** [rank, d_out] of each module, row major; rows by falling energy. */
  readonly b: ReadonlyMap<ModuleName, Float32Array>;
}

/** What a factor set is without its numbers. */
export type FactorShape = Pick<
  FactorSet,
  "digest" | "base" | "layers" | "rank" | "alpha" | "modules" | "residentBytes"
>;

/**
 * An immutable factor set, named by the digest of its content.
 *
 * @example
 * ```ts
 * import { readFactors } from "@lembas/lembas";
 *
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * console.assert(factors.modules.includes("q_proj") && factors.layers === 30);
 * ```
 */
export class FactorSet implements LinearHook {
  readonly digest: string;
  readonly base: string;
  readonly layers: number;
  readonly rank: number;
  readonly alpha: number;
  readonly modules: readonly ModuleName[];
  readonly #a: ReadonlyMap<SiteName, Float32Array>;
  readonly #b: ReadonlyMap<ModuleName, Float32Array>;

  /**
   * Takes the arrays over: the caller must not change them any more.
   * @throws {RangeError | TypeError} for a rank, alpha, module list, shape or element that cannot be.
   */
  constructor(init: FactorSetInit) {
    checkDigest("the factors' base", init.base);
    checkRank(init.rank);
    checkLayers(init.layers);
    checkAlpha(init.alpha ?? init.rank);
    this.base = init.base;
    this.layers = init.layers;
    this.rank = init.rank;
    this.alpha = init.alpha ?? init.rank;
    this.modules = parseModules(init.modules);
    this.#a = new Map(sitesOf(this.modules).map((site) => [site, this.#take("A", site, init.a)]));
    this.#b = new Map(this.modules.map((module) => [module, this.#take("B", module, init.b)]));
    this.digest = contentDigest(factorFields(this), [...this.#a.values(), ...this.#b.values()]);
  }

  a(site: SiteName): Float32Array {
    const a = this.#a.get(site);
    if (a === undefined) throw new RangeError(`Cannot read A.${site}: no adapted linear reads it`);
    return a;
  }

  b(module: ModuleName): Float32Array {
    const b = this.#b.get(module);
    if (b === undefined) {
      throw new RangeError(`Cannot read B.${module}: this factor set adapts ${this.modules}`);
    }
    return b;
  }

  /** Inputs that the adapted linears read, in the order of SITES. */
  get sites(): readonly SiteName[] {
    return [...this.#a.keys()];
  }

  /** d_in of a site. */
  inputSize(site: SiteName): number {
    return this.a(site).length / this.rank;
  }

  /** d_out of a module. */
  outputSize(module: ModuleName): number {
    return this.b(module).length / this.rank;
  }

  /** Bytes of A and B. */
  get byteLength(): number {
    return [...this.#a.values(), ...this.#b.values()]
      .reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** The set without its numbers. */
  get shape(): FactorShape {
    const { digest, base, layers, rank, alpha, modules, residentBytes } = this;
    return { digest, base, layers, rank, alpha, modules, residentBytes };
  }

  /** Bytes that one resident core takes: [layers][rank][modules × rank] in float32. */
  get residentBytes(): number {
    return this.layers * this.modules.length * this.rank * this.rank * 4;
  }

  /** @throws {FieldError} naming both digests or widths where the set is not of this stack. */
  checkStack(stack: Stack): void {
    if (this.base !== stack.base) {
      throw new FieldError(
        "factors",
        `Cannot use factor set ${this.digest}: its base is ${this.base}, served is ${stack.base}`,
      );
    }
    const theirs = shapeText(this.modules, stack);
    const ours = shapeText(this.modules, {
      layers: this.layers,
      inputs: Object.fromEntries(this.sites.map((site) => [site, this.inputSize(site)])),
      outputs: Object.fromEntries(this.modules.map((m) => [m, this.outputSize(m)])),
    });
    if (ours !== theirs) {
      throw new FieldError(
        "factors",
        `Cannot use factor set ${this.digest}: it is for ${ours}, the base has ${theirs}`,
      );
    }
  }

  #take<K extends string>(what: string, name: K, from: ReadonlyMap<K, Float32Array>): Float32Array {
    const values = from.get(name);
    if (values === undefined) throw new TypeError(`Cannot make a factor set: no ${what}.${name}`);
    if (values.length === 0 || values.length % this.rank !== 0) {
      throw new TypeError(
        `Cannot make a factor set: ${what}.${name} has ${values.length} elements, ` +
          `a multiple of rank ${this.rank} is wanted`,
      );
    }
    checkFinite(`${what}.${name}`, values);
    return values;
  }
}

/** The metadata under a factor set's digest. */
function factorFields(factors: Omit<FactorSetInit, "a" | "b">) {
  return {
    format: FACTORS_FORMAT,
    base: factors.base,
    layers: factors.layers,
    rank: factors.rank,
    alpha: factors.alpha ?? factors.rank,
    modules: factors.modules,
  };
}

function checkLayers(layers: number): void {
  if (!Number.isInteger(layers) || layers < 1) {
    throw new RangeError(`Cannot make a factor set: layers is ${layers}, at least 1 is wanted`);
  }
}

/** The site that a module of this set reads, with its A: what a projection needs. */
export function factorsAt(
  factors: FactorSet,
  module: ModuleName,
): { readonly a: Float32Array; readonly b: Float32Array } {
  return { a: factors.a(SITE_OF[module]), b: factors.b(module) };
}
