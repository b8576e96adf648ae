/**
 * Factor sets between store, registry and base: kept for all processes, each read once in this one,
 * and the lanes that run them.
 */
import type { ServedCore } from "../../src/engine/request/adapter.ts";
import type { LaneSource, OpenedLane } from "../../src/engine/lane_pool.ts";
import type { Base } from "../../src/executor/base.ts";
import { FieldRangeError, isFieldError, readField } from "../../src/util/errors.ts";
import type { FactorSet } from "../lotr/factors.ts";
import { readFactors, writeFactors } from "../lotr/format.ts";
import type { FactorStore } from "../store/store.ts";
import type { AdapterRegistry } from "./registry.ts";

/** A name of the store's that cannot be served now. */
export class UnservableError extends Error {
  override readonly name = "UnservableError";
  constructor(
    /** "damaged": its content; "factors": the set that it names is not here. */
    readonly reason: "damaged" | "factors",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export interface FactorSetsOptions {
  readonly store: Pick<FactorStore, "add" | "get" | "list">;
  readonly registry: AdapterRegistry;
}

export class FactorSets {
  readonly #options: FactorSetsOptions;
  readonly #loading = new Map<string, Promise<void>>();
  readonly #kept = new Set<string>();

  constructor(options: FactorSetsOptions) {
    this.#options = options;
  }

  /** Keeps a set in the store and makes it known here. */
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
   * Makes a set of the store's known here; nothing for one that is.
   * @throws {FieldRangeError} for an unknown digest; {FieldError} where it is of another base
   */
  async ensure(digest: string): Promise<void> {
    await this.#load(digest, () => this.#read(digest));
  }

  /** As `ensure`, for a core that a request names. @throws {UnservableError} where that cannot be */
  async ensureFor({ name, factors }: ServedCore): Promise<void> {
    try {
      await this.ensure(factors);
    } catch (cause) {
      if (!isFieldError(cause)) throw cause;
      throw new UnservableError("factors", `Cannot serve '${name}': ${cause.message}`, { cause });
    }
  }

  /** A set itself. @throws as `ensure` does */
  async of(digest: string): Promise<FactorSet> {
    await this.ensure(digest);
    return await this.#options.registry.factorsOf(digest);
  }

  async #read(digest: string): Promise<FactorSet> {
    const { store, registry } = this.#options;
    const file = await store.get(digest);
    if (file !== undefined) return readField("factors", () => readFactors(file));
    // whoever brings it again mends it
    this.#kept.delete(digest);
    registry.shapeOf(digest);
    throw new FieldRangeError(
      "factors",
      `Cannot use factor set ${digest}: it is not in the store any more`,
    );
  }

  /** Once, however many ask for it at the same time. */
  async #load(digest: string, read: () => Promise<FactorSet>): Promise<void> {
    const { registry } = this.#options;
    if (registry.hasFactors(digest)) return;
    const loading = this.#loading.get(digest);
    if (loading !== undefined) return await loading;
    const again = () => this.#read(digest);
    const loaded = read().then((factors) => registry.addFactors(factors, again));
    this.#loading.set(digest, loaded);
    try {
      await loaded;
    } finally {
      this.#loading.delete(digest);
    }
  }
}

/** Lanes of a base for the factor sets of a registry; which are open is the engine's to say. */
export class BaseLanes implements LaneSource {
  readonly #base: Base;
  readonly #registry: AdapterRegistry;

  constructor(base: Base, registry: AdapterRegistry) {
    this.#base = base;
    this.#registry = registry;
  }

  bytes(factors: string): number | undefined {
    return this.#registry.hasFactors(factors)
      ? this.#base.laneBytes(this.#registry.shapeOf(factors))
      : undefined;
  }

  async open(factors: string): Promise<OpenedLane> {
    const model = await this.#base.lane(await this.#registry.factorsOf(factors));
    return { model, close: () => this.#base.drop(model) };
  }
}
