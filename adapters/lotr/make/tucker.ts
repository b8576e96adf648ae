/**
 * Tucker-2 of a stack of matrices by higher-order SVD (De Lathauwer et al. 2000): one input basis A
 * for all linears that read a site, one output basis B a module, common to all layers.
 */
import { type ModuleName, SITE_OF, type SiteName } from "../../../src/models/hook.ts";
import { assemble, type Settled } from "./assemble.ts";
import type { FactorSet } from "../factors.ts";
import { addGram, type Dense, type Leading, leadingEigenvectors, transpose } from "../linalg.ts";
import { sitesOf, type Stack } from "../stack.ts";

/** Σ W·Wᵀ of each site and Σ Wᵀ·W of each module over the matrices added so far. */
export class TuckerSums {
  readonly #inputs: ReadonlyMap<SiteName, Dense>;
  readonly #outputs: ReadonlyMap<ModuleName, Dense>;

  constructor(stack: Stack, modules: readonly ModuleName[]) {
    this.#inputs = new Map(sitesOf(modules).map((site) => [site, square(stack.inputs[site])]));
    this.#outputs = new Map(modules.map((module) => [module, square(stack.outputs[module])]));
  }

  /** Decompositions that a factor set needs. */
  get count(): number {
    return this.#inputs.size + this.#outputs.size;
  }

  /** @param w [d_in, d_out] of one layer's linear */
  add(module: ModuleName, w: Dense): void {
    addGram(this.input(SITE_OF[module]), w, "rows");
    addGram(this.output(module), w, "columns");
  }

  /** Σ W·Wᵀ, [d_in, d_in]. */
  input(site: SiteName): Dense {
    return wanted(this.#inputs, site);
  }

  /** Σ Wᵀ·W, [d_out, d_out]. */
  output(module: ModuleName): Dense {
    return wanted(this.#outputs, module);
  }
}

/**
 * A of the leading eigenvectors of each site's sum, B of each module's; columns and rows by falling
 * energy, s = 1.
 * @param onBasis hears of each basis found and of the share of the sum's trace that it holds
 */
export function tuckerFactors(
  settled: Settled,
  sums: TuckerSums,
  onBasis: (name: string, share: number) => void,
): FactorSet {
  const lead = (name: string, sum: Dense): Dense => {
    const { vectors, share }: Leading = leadingEigenvectors(sum, settled.rank);
    onBasis(name, share);
    return vectors;
  };
  return assemble(
    settled,
    settled.rank,
    (site) => lead(`A.${site}`, sums.input(site)),
    (module) => transpose(lead(`B.${module}`, sums.output(module))),
  );
}

function square(n: number): Dense {
  return { rows: n, columns: n, data: new Float64Array(n * n) };
}

function wanted<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new TypeError(`internal: no sum for ${key}`);
  return value;
}
