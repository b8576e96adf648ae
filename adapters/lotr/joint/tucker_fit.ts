/**
 * Tucker-2 of a stack of LoRAs (the tensor form of Compress-then-Serve's joint diagonalisation,
 * arXiv 2407.00066): bases that all layers share, by higher-order SVD, then by alternating refinement
 * (HOOI, De Lathauwer et al. 2000), which is kept where it gains. The sums Σ ΔW·ΔWᵀ are only applied:
 * no matrix of a linear's width by its width is ever in memory.
 */
import { type ModuleName, MODULES, SITE_OF, SITES } from "../../../src/models/hook.ts";
import {
  addGram,
  addTransposed,
  type Dense,
  gramOf,
  leadingEigenvectors,
  multiply,
  orthonormal,
  traceOfProduct,
  zeros,
} from "../linalg.ts";
import type { Settled } from "../make/assemble.ts";
import { sitesOf } from "../stack.ts";
import { BlockKrylov } from "./krylov.ts";
import { type Bases, coreOf, seen, type Slice } from "./stacked.ts";

/** The LoRAs of one fit, each normalised, one after the other; called for each pass. */
export type Stacked = () => AsyncIterable<readonly Slice[]>;

/** Columns of a block: so many beyond the rank, and never fewer than so many. */
const MORE = 8;
const LEAST_WIDTH = 48;
/** Passes of `hosvd` over the LoRAs: what it captures is then within 1e-5 of what eigenvectors do. */
export const HOSVD_PASSES = 4;
/** Refinement ends where a sweep adds less than this share of the energy. */
const LEAST_GAIN = 2e-3;
const MOST_SWEEPS = 6;

/** Most passes of `refined`. */
export const REFINE_PASSES = 2 * MOST_SWEEPS + 1;

/**
 * The leading directions of each sum on its own: higher-order SVD.
 * @param passes over the LoRAs; fewer find less exactly
 */
export async function hosvd(
  settled: Settled,
  stacked: Stacked,
  { seed, passes = HOSVD_PASSES }: { readonly seed: number; readonly passes?: number },
): Promise<Bases> {
  const width = Math.max(settled.rank + MORE, LEAST_WIDTH);
  const krylovs = mapped(settled, (size, stream) => new BlockKrylov(size, width, seed, stream));
  for (let pass = 0; pass < passes; pass++) {
    const blocks = valuesOf(krylovs, (krylov) => krylov.block);
    const images = valuesOf(blocks, ({ rows, columns }) => zeros(rows, columns));
    for await (const slices of stacked()) {
      for (const { module, p, q } of slices) {
        const [a, b] = [blocks.inputs.get(SITE_OF[module]), blocks.outputs.get(module)];
        const [forA, forB] = [images.inputs.get(SITE_OF[module]), images.outputs.get(module)];
        if (!a || !b || !forA || !forB) continue;
        addTransposed(forA, p, multiply(gramOf(q), multiply(p, a)));
        addTransposed(forB, q, multiply(gramOf(p), multiply(q, b)));
      }
    }
    for (const [key, krylov] of krylovs.inputs) krylov.add(found(images.inputs, key));
    for (const [key, krylov] of krylovs.outputs) krylov.add(found(images.outputs, key));
  }
  return valuesOf(krylovs, (krylov) => krylov.leading(settled.rank));
}

/** Better bases, or those given where a sweep does not gain; by falling energy in either case. */
export async function refined(bases: Bases, stacked: Stacked): Promise<Bases> {
  let [best, last] = [bases, 0];
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    const { bases: turned, captured } = await half(best, stacked, "inputs");
    if (sweep > 0 && captured - last < LEAST_GAIN * captured) break;
    [best, last] = [(await half(turned, stacked, "outputs")).bases, captured];
  }
  return await ordered(best, stacked);
}

/**
 * One step of orthogonal iteration for one side with the other held: what is captured never falls.
 * Also says what the bases given capture, summed over the LoRAs.
 */
async function half(
  bases: Bases,
  stacked: Stacked,
  side: "inputs" | "outputs",
): Promise<{ readonly bases: Bases; readonly captured: number }> {
  const sums = new Map<string, Dense>(
    [...bases[side]].map(([key, { rows, columns }]) => [key, zeros(rows, columns)]),
  );
  let captured = 0;
  for await (const slices of stacked()) {
    for (const slice of slices) {
      const view = seen(slice, bases);
      if (view === undefined) continue;
      const { u, v } = view;
      const [own, other] = side === "inputs" ? [u, v] : [v, u];
      const gram = gramOf(other);
      captured += traceOfProduct(gramOf(own), gram);
      const [key, halfOf] = side === "inputs"
        ? [SITE_OF[slice.module], slice.p]
        : [slice.module, slice.q];
      addTransposed(found(sums, key), halfOf, multiply(gram, own));
    }
  }
  const turn = <K extends string>([key, before]: [K, Dense]): [K, Dense] => {
    const sum = found<string>(sums, key);
    return [key, sum.data.every((value) => value === 0) ? before : orthonormal(sum)];
  };
  const turned = side === "inputs"
    ? { ...bases, inputs: new Map([...bases.inputs].map(turn)) }
    : { ...bases, outputs: new Map([...bases.outputs].map(turn)) };
  return { bases: turned, captured };
}

/** The same spans with columns by the energy that cores give them: a smaller rank takes the first. */
async function ordered(bases: Bases, stacked: Stacked): Promise<Bases> {
  const sums = valuesOf(bases, ({ columns }) => zeros(columns, columns));
  for await (const slices of stacked()) {
    for (const slice of slices) {
      const core = coreOf(slice, bases);
      if (core === undefined) continue;
      addGram(found(sums.inputs, SITE_OF[slice.module]), core, "rows");
      addGram(found(sums.outputs, slice.module), core, "columns");
    }
  }
  const turned = <K extends string>(of: ReadonlyMap<K, Dense>, by: ReadonlyMap<K, Dense>) =>
    new Map([...of].map(([key, basis]) => {
      const { vectors } = leadingEigenvectors(found(by, key), basis.columns);
      return [key, multiply(basis, vectors)];
    }));
  return {
    inputs: turned(bases.inputs, sums.inputs),
    outputs: turned(bases.outputs, sums.outputs),
  };
}

interface Sides<T> {
  readonly inputs: ReadonlyMap<typeof SITES[number], T>;
  readonly outputs: ReadonlyMap<ModuleName, T>;
}

/** Something for each site and module, by its width and a stream that is its own. */
function mapped<T>(
  { stack, modules }: Settled,
  make: (size: number, stream: number) => T,
): Sides<T> {
  return {
    inputs: new Map(
      sitesOf(modules).map((site) => [
        site,
        make(stack.inputs[site], SITES.indexOf(site)),
      ]),
    ),
    outputs: new Map(modules.map((module) => [
      module,
      make(stack.outputs[module], SITES.length + MODULES.indexOf(module)),
    ])),
  };
}

function valuesOf<T, U>({ inputs, outputs }: Sides<T>, make: (value: T) => U): Sides<U> {
  return {
    inputs: new Map([...inputs].map(([key, value]) => [key, make(value)])),
    outputs: new Map([...outputs].map(([key, value]) => [key, make(value)])),
  };
}

function found<K>(map: ReadonlyMap<K, Dense>, key: K): Dense {
  const value = map.get(key);
  if (value === undefined) throw new TypeError(`internal: no matrix for ${key}`);
  return value;
}
