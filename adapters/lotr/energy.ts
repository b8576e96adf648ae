/**
 * How much of given matrices (gradients or weights) a factor set can express, and how alike two
 * factor sets are.
 */
import { type ModuleName, SITE_OF, type SiteName } from "../../src/models/hook.ts";
import type { LinearMatrix } from "../../src/train/gradients/gradient_source.ts";
import type { FactorSet } from "./factors.ts";
import {
  type Dense,
  dense,
  firstColumns,
  multiply,
  orthonormal,
  singularValues,
  transpose,
} from "./linalg.ts";

/** Shares, 0 to 1, of ‖W‖² of one linear. */
export interface CapturedEnergy {
  readonly layer: number;
  readonly module: ModuleName;
  /** What the input basis alone holds: ‖Aᵀ·W‖² / ‖W‖². */
  readonly input: number;
  /** What the output basis alone holds: ‖W·Bᵀ‖² / ‖W‖². */
  readonly output: number;
  /** What a core can express: ‖Aᵀ·W·Bᵀ‖² / ‖W‖². */
  readonly core: number;
}

/** What a factor set's bases span; A and B need not be orthonormal. */
export class FactorSpans {
  readonly #bases: Bases;

  /** @param rank the first directions only; default: all */
  constructor(factors: FactorSet, rank: number = factors.rank) {
    this.#bases = basesOf(factors, rank);
  }

  /**
   * The energy of a matrix within the spans.
   * @throws {RangeError} where it is of a linear that the set does not adapt, or has another shape
   */
  captured({ layer, module, values }: LinearMatrix): CapturedEnergy {
    const a = this.#bases.input(SITE_OF[module]);
    const b = this.#bases.output(module);
    const w = dense(a.rows, b.rows, values);
    const left = multiply(transpose(a), w);
    const total = energy(w);
    return {
      layer,
      module,
      input: energy(left) / total,
      output: energy(multiply(w, b)) / total,
      core: energy(multiply(left, b)) / total,
    };
  }
}

/** The mean over the linears given, each of the same weight; NaN for none. */
export function meanEnergy(
  energies: readonly CapturedEnergy[],
): Pick<CapturedEnergy, "input" | "output" | "core"> {
  const mean = (of: (energy: CapturedEnergy) => number) =>
    energies.reduce((sum, one) => sum + of(one), 0) / energies.length;
  return { input: mean((e) => e.input), output: mean((e) => e.output), core: mean((e) => e.core) };
}

/** Two bases of one name. */
export interface BasisOverlap {
  /** `A.site` or `B.module`. */
  readonly name: string;
  /** Share of the narrower span that lies in the other: mean squared cosine, 0 to 1. */
  readonly overlap: number;
  /** What two random spans of these ranks would share: the larger rank over the width. */
  readonly chance: number;
  /** Principal angles between the spans, degrees, smallest first (Björck and Golub 1973). */
  readonly angles: readonly number[];
}

/**
 * Principal angles of each basis that both sets have.
 *
 * @param rank the first directions only; default: all of each
 * @throws {TypeError} where the sets are of different bases or share no linear
 *
 * @example
 * ```ts
 * import { compareFactors, readFactors } from "@lembas/lembas";
 *
 * const factors = readFactors(await Deno.readFile("tests/fixtures/adapters/factors.safetensors"));
 * const overlaps = compareFactors(factors, factors);
 * console.assert(overlaps.every(({ overlap }) => overlap > 0.999));
 * ```
 */
export function compareFactors(one: FactorSet, other: FactorSet, rank?: number): BasisOverlap[] {
  if (one.base !== other.base) {
    throw new TypeError(
      `Cannot compare factor sets: the base of one is ${one.base}, of the other ${other.base}`,
    );
  }
  const sites = one.sites.filter((site) => other.sites.includes(site));
  const modules = one.modules.filter((module) => other.modules.includes(module));
  if (modules.length === 0) {
    throw new TypeError(
      `Cannot compare factor sets: one adapts ${one.modules}, the other ${other.modules}`,
    );
  }
  const [left, right] = [one, other].map((set) => basesOf(set, Math.min(rank ?? 64, set.rank)));
  return [
    ...sites.map((site) => overlapOf(`A.${site}`, left.input(site), right.input(site))),
    ...modules.map((module) => overlapOf(`B.${module}`, left.output(module), right.output(module))),
  ];
}

function overlapOf(name: string, one: Dense, other: Dense): BasisOverlap {
  const cosines = singularValues(multiply(transpose(one), other)).map((c) => Math.min(c, 1));
  const squares = cosines.reduce((sum, cosine) => sum + cosine ** 2, 0);
  return {
    name,
    overlap: squares / cosines.length,
    chance: Math.max(one.columns, other.columns) / one.rows,
    angles: cosines.map((cosine) => Math.acos(cosine) * 180 / Math.PI),
  };
}

/** Orthonormal columns with the spans of A [d_in, rank] and of Bᵀ [d_out, rank]. */
interface Bases {
  input(site: SiteName): Dense;
  output(module: ModuleName): Dense;
}

function basesOf(factors: FactorSet, rank: number): Bases {
  const basis = (data: Dense) => orthonormal(firstColumns(data, rank));
  const inputs = new Map(factors.sites.map((site) => {
    const a = dense(factors.inputSize(site), factors.rank, factors.a(site));
    return [site, basis(a)];
  }));
  const outputs = new Map(factors.modules.map((module) => {
    const b = dense(factors.rank, factors.outputSize(module), factors.b(module));
    return [module, basis(transpose(b))];
  }));
  return {
    input: (site: SiteName) => known(inputs, site, factors),
    output: (module: ModuleName) => known(outputs, module, factors),
  };
}

function known<K extends string>(map: ReadonlyMap<K, Dense>, key: K, factors: FactorSet): Dense {
  const basis = map.get(key);
  if (basis === undefined) {
    throw new RangeError(`Cannot measure ${key}: the factor set adapts ${factors.modules}`);
  }
  return basis;
}

function energy({ data }: Dense): number {
  return data.reduce((sum, value) => sum + value * value, 0);
}
