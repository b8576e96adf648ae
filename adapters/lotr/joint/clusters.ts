/**
 * LoRAs in clusters, each with bases of its own, for when one set cannot hold them all: k-means whose
 * distance is the energy that a set leaves out (Compress-then-Serve, arXiv 2407.00066).
 */
import { type ModuleName, MODULES } from "../../../src/models/hook.ts";
import { streamKey, uniformOf } from "../../../src/util/random.ts";
import { settle, type Settled } from "../make/assemble.ts";
import type { Stack } from "../stack.ts";
import { type Bases, capturedBy, type LoraSource, normalised, type Slice } from "./stacked.ts";
import { hosvd, HOSVD_PASSES, REFINE_PASSES, refined } from "./tucker_fit.ts";

/** Who belongs together shows at a small rank, and after few passes, as well as at a large one. */
const GROUPING = { rank: 16, passes: 2 };
/** Most times that LoRAs are given to clusters and clusters are fitted to them. */
const MOST_ROUNDS = 6;
/** Stream of the seed by which the first LoRA is chosen: none of a site's or module's. */
const CHOICE = 100;

/** A LoRA that was looked at once. */
export interface Surveyed {
  readonly source: LoraSource;
  readonly modules: readonly ModuleName[];
}

export interface Cluster {
  readonly settled: Settled;
  readonly bases: Bases;
  /** Places of its LoRAs, ascending. */
  readonly members: readonly number[];
}

export interface ClusterOptions {
  readonly stack: Stack;
  readonly rank: number;
  readonly loras: readonly Surveyed[];
  /** 1 to the number of LoRAs. */
  readonly count: number;
  /** A 32-bit number; the same gives the same clusters. */
  readonly seed: number;
  /** Hears of each LoRA that was read, and for what. */
  readonly onRead: (what: string) => void;
}

/**
 * The LoRAs in `count` clusters, each with its refined bases.
 * @throws {RangeError} for a rank that a linear is too narrow for
 * @throws {TypeError} where a LoRA cannot be read, or adds nothing
 */
export async function clustered(options: ClusterOptions): Promise<readonly Cluster[]> {
  const { loras, count, rank } = options;
  const groups = count === 1 ? [loras.map((_, place) => place)] : await grouped(options);
  const out: Cluster[] = [];
  for (const members of groups) {
    const cluster = await fitted(options, members, { rank });
    const stacked = () => read(options, members, "refining");
    out.push({ ...cluster, bases: await refined(cluster.bases, stacked) });
  }
  return out;
}

/** Reads that `clustered` takes at most, of `n` LoRAs. */
export function readsOf(count: number, n: number): number {
  const { passes } = GROUPING;
  const grouping = count === 1
    ? 0
    : count * passes + (count - 1) * n + MOST_ROUNDS * (1 + passes) * n;
  return grouping + (HOSVD_PASSES + REFINE_PASSES) * n;
}

/** LoRAs go to the cluster that captures most of them until none moves. */
async function grouped(options: ClusterOptions): Promise<Groups> {
  let clusters = await farApart(options);
  let groups: Groups = [];
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const next = groupsOf(await capturedByEach(options, clusters));
    if (JSON.stringify(next) === JSON.stringify(groups)) break;
    groups = next;
    clusters = [];
    for (const members of next) {
      clusters = [...clusters, await fitted(options, members, groupingOf(options))];
    }
  }
  return groups;
}

function groupingOf({ rank }: ClusterOptions): Fitting {
  return { ...GROUPING, rank: Math.min(GROUPING.rank, rank) };
}

/** One LoRA that the seed chooses, then by turns the one of which those before hold least. */
async function farApart(options: ClusterOptions): Promise<readonly Cluster[]> {
  const { loras, count, seed } = options;
  const first = Math.floor(uniformOf(streamKey(seed, CHOICE), 0) * loras.length);
  let clusters = [await fitted(options, [first], groupingOf(options))];
  while (clusters.length < count) {
    const taken = new Set(clusters.flatMap(({ members }) => members));
    const held = (await capturedByEach(options, clusters)).map((shares) => Math.max(...shares));
    const [next = 0] = loras.map((_, place) => place).filter((place) => !taken.has(place))
      .sort((a, b) => held[a] - held[b]);
    clusters = [...clusters, await fitted(options, [next], groupingOf(options))];
  }
  return clusters;
}

/** Shares, 0 to 1, of each LoRA by each cluster. */
async function capturedByEach(
  options: ClusterOptions,
  clusters: readonly Cluster[],
): Promise<readonly (readonly number[])[]> {
  const shares: number[][] = [];
  const all = options.loras.map((_, place) => place);
  for await (const slices of read(options, all, "assigning")) {
    shares.push(clusters.map(({ bases }) => capturedBy(bases, slices)));
  }
  return shares;
}

/** Places of each cluster's LoRAs, ascending. */
type Groups = readonly (readonly number[])[];

interface Fitting {
  readonly rank: number;
  readonly passes?: number;
}

/** Places by the cluster that captures most; one left empty gets the LoRA that is held worst. */
export function groupsOf(shares: readonly (readonly number[])[]): Groups {
  const count = shares[0]?.length ?? 0;
  const best = shares.map((row) => row.indexOf(Math.max(...row)));
  for (let cluster = 0; cluster < count; cluster++) {
    if (best.includes(cluster)) continue;
    const [worst = 0] = best.map((_, place) => place)
      .filter((place) => best.filter((other) => other === best[place]).length > 1)
      .sort((a, b) => Math.max(...shares[a]) - Math.max(...shares[b]));
    best[worst] = cluster;
  }
  return Array.from(
    { length: count },
    (_, cluster) => best.flatMap((own, place) => own === cluster ? [place] : []),
  );
}

/** Bases of some of the LoRAs, over the linears that any of them adapts. */
async function fitted(
  options: ClusterOptions,
  members: readonly number[],
  { rank, ...passes }: Fitting,
): Promise<Cluster> {
  const { stack, seed, loras } = options;
  const adapted = new Set(members.flatMap((place) => loras[place].modules));
  const settled = settle({ stack, rank, modules: MODULES.filter((name) => adapted.has(name)) });
  const stacked = () => read(options, members, "fitting");
  return { settled, bases: await hosvd(settled, stacked, { seed, ...passes }), members };
}

async function* read(
  { loras, onRead }: ClusterOptions,
  places: readonly number[],
  what: string,
): AsyncGenerator<readonly Slice[]> {
  for (const place of places) {
    const { source } = loras[place];
    yield normalised(source.name, await source.read());
    onRead(what);
  }
}
