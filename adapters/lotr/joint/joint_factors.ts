/**
 * Many LoRAs of one base compressed together: factor sets that hold as much of all of them as they
 * can, and a core for each. What they cannot hold is lost, and told for each LoRA.
 */
import { MODULES, SITE_OF } from "../../../src/models/hook.ts";
import { type Core, coreFrom } from "../core.ts";
import type { FactorSet } from "../factors.ts";
import { type Dense, transpose } from "../linalg.ts";
import { assemble } from "../make/assemble.ts";
import { checkRank, type Stack } from "../stack.ts";
import { type Cluster, clustered, readsOf, type Surveyed } from "./clusters.ts";
import {
  type Bases,
  capturedBy,
  coreOf,
  energyOf,
  type LoraSource,
  type Slice,
} from "./stacked.ts";

/** Most clusters that "auto" tries. */
export const MOST_CLUSTERS = 8;

export interface JointOptions {
  readonly stack: Stack;
  /** 1 to 64, and at most the narrowest adapted input or output. */
  readonly rank: number;
  readonly sources: readonly LoraSource[];
  /** A number, or the least of which the LoRAs' mean captured energy is `enough`. */
  readonly clusters: number | "auto";
  /** 0 to 1. */
  readonly enough: number;
  readonly seed: number;
  /** Hears of each LoRA that was read, and for what. */
  readonly onRead?: (what: string) => void;
}

/** One LoRA as a core. */
export interface JointCore {
  readonly name: string;
  /** Which of the factor sets it is of. */
  readonly set: number;
  readonly core: Core;
  /** Share of its energy that the core's first k × k elements hold, 0 to 1, for k from 1 to the rank. */
  readonly captured: readonly number[];
}

export interface JointFit {
  readonly sets: readonly FactorSet[];
  /**
   * Reads each LoRA once more, in the order of the sources.
   * @param stored the sets as they are kept, where that rounds them; default: `sets`
   */
  cores(stored?: readonly FactorSet[]): AsyncGenerator<JointCore>;
}

/**
 * Fits factor sets to the LoRAs, which are read one after the other, some tens of times.
 *
 * @throws {RangeError} for a rank or number of clusters that is not possible
 * @throws {TypeError} naming a LoRA that cannot be read, is of another shape, or adds nothing
 */
export async function jointFactors(options: JointOptions): Promise<JointFit> {
  const { stack, rank, sources, seed, onRead = () => {} } = options;
  checkRank(rank);
  checkClusters(options);
  const loras = await surveyed(options);
  const fit = (count: number) => clustered({ stack, rank, loras, count, seed, onRead });
  if (options.clusters !== "auto") return fitOf(sources, await fit(options.clusters));
  for (let count = 1;; count++) {
    const clusters = await fit(count);
    if (count === Math.min(MOST_CLUSTERS, sources.length)) return fitOf(sources, clusters);
    const captured = await meanCaptured(sources, clusters, onRead);
    if (captured >= options.enough) return fitOf(sources, clusters);
  }
}

/** Reads of a LoRA that compressing takes at most. */
export function mostReads(
  { sources: { length: n }, clusters }: Pick<JointOptions, "sources" | "clusters">,
): number {
  if (clusters !== "auto") return n + readsOf(clusters, n);
  const counts = Array.from({ length: Math.min(MOST_CLUSTERS, n) }, (_, i) => i + 1);
  return n + counts.reduce((sum, count) => sum + n + readsOf(count, n), 0);
}

function checkClusters({ clusters, sources }: JointOptions): void {
  if (sources.length === 0) throw new TypeError("Cannot compress LoRAs: none is given");
  if (clusters === "auto") return;
  if (Number.isInteger(clusters) && clusters >= 1 && clusters <= sources.length) return;
  throw new RangeError(
    `Cannot make ${clusters} clusters of ${sources.length} LoRAs: ` +
      `a whole number from 1 to ${sources.length} is wanted`,
  );
}

/** Reads each LoRA once, so that one that cannot be used is told before the work begins. */
async function surveyed({ stack, sources, onRead }: JointOptions): Promise<readonly Surveyed[]> {
  const out: Surveyed[] = [];
  for (const source of sources) {
    const slices = await source.read();
    for (const slice of slices) checkSlice(source.name, slice, stack);
    const adapted = new Set(slices.map(({ module }) => module));
    out.push({ source, modules: MODULES.filter((module) => adapted.has(module)) });
    onRead?.("reading");
  }
  return out;
}

function checkSlice(name: string, { layer, module, p, q }: Slice, stack: Stack): void {
  if (layer >= stack.layers) {
    throw new TypeError(
      `Cannot compress ${name}: it adapts layer ${layer}, the base has ${stack.layers} layers`,
    );
  }
  const wanted = [stack.inputs[SITE_OF[module]], stack.outputs[module]];
  if (p.columns === wanted[0] && q.columns === wanted[1]) return;
  throw new TypeError(
    `Cannot compress ${name}: its ${module} of layer ${layer} goes ${p.columns}→${q.columns}, ` +
      `the base's ${wanted.join("→")}: it was trained for another base`,
  );
}

async function meanCaptured(
  sources: readonly LoraSource[],
  clusters: readonly Cluster[],
  onRead: (what: string) => void,
): Promise<number> {
  let sum = 0;
  for (const { bases, members } of clusters) {
    for (const place of members) {
      const slices = await sources[place].read();
      sum += capturedBy(bases, slices) / energyOf(slices);
      onRead("measuring");
    }
  }
  return sum / sources.length;
}

function fitOf(sources: readonly LoraSource[], clusters: readonly Cluster[]): JointFit {
  const sets = clusters.map(({ settled, bases }) =>
    assemble(
      settled,
      settled.rank,
      (site) => wanted(bases.inputs, site),
      (module) => transpose(wanted(bases.outputs, module)),
    )
  );
  return {
    sets,
    async *cores(stored = sets) {
      for (const [place, { name, read }] of sources.entries()) {
        const set = clusters.findIndex(({ members }) => members.includes(place));
        yield { name, set, ...jointCore(await read(), clusters[set].bases, stored[set]) };
      }
    },
  };
}

function jointCore(slices: readonly Slice[], bases: Bases, factors: FactorSet) {
  const { rank, layers, modules } = factors;
  const values = new Float32Array(layers * modules.length * rank ** 2);
  const held = new Float64Array(rank);
  for (const slice of slices) {
    const core = coreOf(slice, bases);
    if (core === undefined) throw new TypeError(`internal: no bases for ${slice.module}`);
    values.set(
      core.data,
      (slice.layer * modules.length + modules.indexOf(slice.module)) * rank ** 2,
    );
    addCorners(held, core);
  }
  const energy = energyOf(slices);
  let sum = 0;
  const captured = Array.from(held, (share) => (sum += share) / energy);
  return { core: coreFrom(factors, rank, values), captured };
}

/** Adds the squares of each element to the least corner that has it. */
function addCorners(held: Float64Array, { rows, columns, data }: Dense): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) held[Math.max(i, j)] += data[i * columns + j] ** 2;
  }
}

function wanted<K extends string>(map: ReadonlyMap<K, Dense>, key: K): Dense {
  const value = map.get(key);
  if (value === undefined) throw new TypeError(`internal: no basis for ${key}`);
  return value;
}
