/**
 * What a core costs that is not in memory: its name looked up in the store, its content read, checked
 * and laid out, by the same parts as the server's. It owns the clock and the choice of cores.
 */
import { CoreCache, type CoreCacheMetrics } from "../../adapters/catalog/cache.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { AdapterRegistry } from "../../adapters/catalog/registry.ts";
import type { Stack } from "../../adapters/lotr/stack.ts";
import { StoredCores } from "../../adapters/catalog/stored_cores.ts";
import type { Store } from "../../adapters/store/store.ts";
import { percentile, round } from "../stats.ts";
import { seededRandom } from "../workload.ts";
import { shelfName } from "./shelf.ts";

export interface ColdOptions {
  readonly store: Store;
  readonly stack: Stack;
  readonly factors: FactorSet;
  /** Cores that are registered. */
  readonly cores: number;
  /** Bytes of resident cores. */
  readonly coreMemory: number;
  readonly seed: number;
}

export interface ColdFigures {
  readonly loads: number;
  /** Milliseconds from the name to the resident core. */
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface BoundFigures extends ColdFigures {
  readonly metrics: CoreCacheMetrics;
  /** Resident memory of the whole process before and after, and the most in between; GB. */
  readonly rss: { readonly before: number; readonly after: number; readonly most: number };
}

/** One process' serving of a store's cores, without a model. */
export class ColdBench implements Disposable {
  readonly #options: ColdOptions;
  readonly #cores: StoredCores;
  readonly #cache: CoreCache;
  /** Numbers of cores in a random order, each once. */
  readonly #order: Iterator<number>;

  constructor(options: ColdOptions) {
    const { store, stack, factors, cores, coreMemory, seed } = options;
    const registry = new AdapterRegistry({ stack });
    registry.factors.add(factors);
    this.#options = options;
    this.#cores = new StoredCores({ store, registry });
    registry.elsewhere(this.#cores);
    this.#cache = new CoreCache({ loader: registry, maxBytes: coreMemory });
    this.#order = shuffled(cores, seed).values();
  }

  /** Loads so many cores, one after the other. @throws {RangeError} where none is left */
  async load(loads: number): Promise<ColdFigures> {
    const times: number[] = [];
    while (times.length < loads) times.push(await this.#one());
    return figuresOf(times);
  }

  /** Loads until memory is full, and a tenth of it more. */
  async fill(): Promise<BoundFigures> {
    const { factors, coreMemory } = this.#options;
    const loads = Math.ceil(1.1 * coreMemory / factors.residentBytes);
    const times: number[] = [];
    const rss = () => Deno.memoryUsage().rss;
    const before = rss();
    let most = before;
    while (times.length < loads) {
      times.push(await this.#one());
      most = Math.max(most, rss());
      this.#cache.checkIntegrity();
    }
    const gigabytes = (bytes: number) => round(bytes / 1e9, 2);
    return {
      ...figuresOf(times),
      metrics: this.#cache.metrics(),
      rss: { before: gigabytes(before), after: gigabytes(rss()), most: gigabytes(most) },
    };
  }

  [Symbol.dispose](): void {
    this.#cores[Symbol.dispose]();
  }

  async #one(): Promise<number> {
    const { value: k, done } = this.#order.next();
    if (done) throw new RangeError(`Cannot bench: all ${this.#options.cores} cores are loaded`);
    const { tenant, name } = shelfName(k);
    const start = performance.now();
    const found = await this.#cores.find(tenant, { name, version: { type: "latest" } });
    if (found === undefined) throw new Error(`Cannot bench: ${tenant}/${name} is not registered`);
    const lease = await this.#cache.acquire(found);
    const ms = performance.now() - start;
    lease.release();
    return ms;
  }
}

function figuresOf(times: readonly number[]): ColdFigures {
  const at = (p: number) => round(percentile(times, p), 2);
  return { loads: times.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

/** The numbers below `count` in a random order. */
function shuffled(count: number, seed: number): Uint32Array {
  const random = seededRandom(seed);
  const order = Uint32Array.from({ length: count }, (_, k) => k);
  for (let at = count - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other] ?? 0, order[at] ?? 0];
  }
  return order;
}
