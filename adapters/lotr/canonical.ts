/**
 * The same branch over better factors: A of orthonormal columns and B of orthonormal rows, sorted
 * by the energy that the core gives them, the core rewritten to match. So factors that were trained
 * are like those that were made: a smaller rank uses the first of them.
 */
import { type ModuleName, SITE_OF, type SiteName } from "../../src/models/hook.ts";
import { type Core, coreFrom } from "./core.ts";
import { FactorSet } from "./factors.ts";
import {
  addGram,
  type Dense,
  dense,
  leadingEigenvectors,
  multiply,
  orthonormal,
  transpose,
} from "./linalg.ts";

export interface Adapter {
  readonly factors: FactorSet;
  /** Of the factor set's rank. */
  readonly core: Core;
}

/**
 * Rewrites A·G·B as (Q·U)·(Uᵀ·R·G·L·V)·(Vᵀ·P), with A = Q·R and B = L·P orthonormal and U, V the
 * eigenvectors of the cores' summed squares: HOSVD (De Lathauwer et al. 2000) of a stack that is
 * low-rank already. Exact up to float32's rounding; the scale stays.
 *
 * @throws {TypeError} where the core is not of these factors, or of another rank.
 */
export function canonical({ factors, core }: Adapter): Adapter {
  core.checkFactors(factors);
  if (core.rank !== factors.rank) {
    throw new TypeError(
      `Cannot rewrite a core of rank ${core.rank}: the factor set's rank is ${factors.rank}`,
    );
  }
  const inputs = new Map(factors.sites.map((site) => [site, inputBasis(factors, site)]));
  const outputs = new Map(factors.modules.map((module) => [module, outputBasis(factors, module)]));
  const matrices = factors.modules.map((module, i) =>
    Array.from({ length: factors.layers }, (_, layer) => {
      const g = square(factors.rank, core.matrix(layer, i));
      const left = multiply(wanted(inputs, SITE_OF[module]).inner, g);
      return multiply(left, wanted(outputs, module).inner);
    })
  );
  const turns = turnsOf(factors, matrices);
  return rebuild(factors, {
    a: new Map(factors.sites.map((site) => [
      site,
      multiply(wanted(inputs, site).outer, wanted(turns.inputs, site)),
    ])),
    b: new Map(factors.modules.map((module) => [
      module,
      multiply(transpose(wanted(turns.outputs, module)), wanted(outputs, module).outer),
    ])),
    matrices: matrices.map((own, i) => {
      const module = factors.modules[i];
      const left = transpose(wanted(turns.inputs, SITE_OF[module]));
      return own.map((g) => multiply(multiply(left, g), wanted(turns.outputs, module)));
    }),
  });
}

/** A factor as an orthonormal part and a square one. */
interface Basis {
  readonly outer: Dense;
  readonly inner: Dense;
}

/** A = Q·R: outer Q [d_in, r], inner R. */
function inputBasis(factors: FactorSet, site: SiteName): Basis {
  const a = dense(factors.inputSize(site), factors.rank, factors.a(site));
  const outer = orthonormal(a);
  return { outer, inner: multiply(transpose(outer), a) };
}

/** B = L·P: outer P [r, d_out], inner L. */
function outputBasis(factors: FactorSet, module: ModuleName): Basis {
  const b = dense(factors.rank, factors.outputSize(module), factors.b(module));
  const columns = orthonormal(transpose(b));
  return { outer: transpose(columns), inner: multiply(b, columns) };
}

/** U of each site and V of each module, columns by falling energy. */
function turnsOf(factors: FactorSet, matrices: readonly (readonly Dense[])[]) {
  const zero = () => square(factors.rank, new Float64Array(factors.rank ** 2));
  const left = new Map(factors.sites.map((site) => [site, zero()]));
  const right = new Map(factors.modules.map((module) => [module, zero()]));
  for (const [i, own] of matrices.entries()) {
    const module = factors.modules[i];
    for (const g of own) {
      addGram(wanted(left, SITE_OF[module]), g, "rows");
      addGram(wanted(right, module), g, "columns");
    }
  }
  const lead = <K>([key, sum]: [K, Dense]): [K, Dense] => [
    key,
    leadingEigenvectors(sum, factors.rank).vectors,
  ];
  return { inputs: new Map([...left].map(lead)), outputs: new Map([...right].map(lead)) };
}

function rebuild(
  { base, layers, rank, alpha, modules }: FactorSet,
  parts: {
    readonly a: ReadonlyMap<SiteName, Dense>;
    readonly b: ReadonlyMap<ModuleName, Dense>;
    /** Of each module, of each layer. */
    readonly matrices: readonly (readonly Dense[])[];
  },
): Adapter {
  const rounded = <K>(map: ReadonlyMap<K, Dense>): Map<K, Float32Array> =>
    new Map([...map].map(([key, { data }]) => [key, Float32Array.from(data)]));
  const a = rounded(parts.a);
  const b = rounded(parts.b);
  const factors = new FactorSet({ base, layers, rank, alpha, modules, a, b });
  const values = new Float32Array(layers * modules.length * rank ** 2);
  for (const [i, own] of parts.matrices.entries()) {
    for (const [layer, { data }] of own.entries()) {
      values.set(data, (layer * modules.length + i) * rank ** 2);
    }
  }
  return { factors, core: coreFrom(factors, rank, values) };
}

function square(size: number, values: ArrayLike<number>): Dense {
  return dense(size, size, values);
}

function wanted<K, V>(map: ReadonlyMap<K, V>, key: K): V {
  const value = map.get(key);
  if (value === undefined) throw new TypeError(`internal: no matrix for ${key}`);
  return value;
}
