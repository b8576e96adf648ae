/**
 * Factor sets between the store and memory: kept for all processes, and loaded into this one when a
 * core first needs them. It owns that each is loaded once; what loading means is handed in.
 */
import type { FactorSet } from "../lotr/factors.ts";
import { readFactors, writeFactors } from "../lotr/format.ts";
import type { AdapterRegistry } from "./registry.ts";
import type { FactorStore } from "../store/store.ts";

export interface FactorSetsOptions {
  readonly store: FactorStore;
  readonly registry: AdapterRegistry;
  /** Makes a factor set servable. @throws {TypeError} of another base */
  readonly load: (
    factors: FactorSet,
    reload: () => Promise<FactorSet>,
  ) => void | Promise<void>;
}

export class FactorSets {
  readonly #options: FactorSetsOptions;
  readonly #loading = new Map<string, Promise<void>>();
  readonly #kept = new Set<string>();

  constructor(options: FactorSetsOptions) {
    this.#options = options;
  }

  /** Keeps a set in the store and makes it servable here. */
  async keep(factors: FactorSet): Promise<void> {
    const { digest } = factors;
    if (!this.#kept.has(digest)) {
      await this.#options.store.add(digest, writeFactors(factors));
      this.#kept.add(digest);
    }
    await this.#load(digest, () => Promise.resolve(factors));
  }

  /** Keeps all sets that are loaded, so that other processes have them too. */
  async keepLoaded(): Promise<void> {
    const { store, registry } = this.#options;
    for (const { digest } of await store.list()) this.#kept.add(digest);
    for (const factors of registry.factorSets()) await this.keep(factors);
  }

  /**
   * Makes a set of the store's servable here; nothing for one that is.
   * @throws {RangeError} for an unknown digest; {TypeError} where it is of another base
   */
  async ensure(digest: string): Promise<void> {
    await this.#load(digest, () => this.#read(digest));
  }

  /** A set itself. @throws as `ensure` does */
  async of(digest: string): Promise<FactorSet> {
    await this.ensure(digest);
    return await this.#options.registry.factorsOf(digest);
  }

  async #read(digest: string): Promise<FactorSet> {
    const { store, registry } = this.#options;
    const file = await store.get(digest);
    if (file !== undefined) return readFactors(file);
    // whoever brings it again mends it
    this.#kept.delete(digest);
    registry.shapeOf(digest);
    throw new RangeError(`Cannot use factor set ${digest}: it is not in the store any more`);
  }

  /** Once, however many ask for it at the same time. */
  async #load(digest: string, read: () => Promise<FactorSet>): Promise<void> {
    // first: the registry knows a set before the engine does
    const loading = this.#loading.get(digest);
    if (loading !== undefined) return await loading;
    if (this.#options.registry.hasFactors(digest)) return;
    const again = () => this.#read(digest);
    const loaded = read().then((factors) => this.#options.load(factors, again));
    this.#loading.set(digest, loaded);
    try {
      await loaded;
    } finally {
      this.#loading.delete(digest);
    }
  }
}
