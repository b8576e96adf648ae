/**
 * Lanes of a base for the factor sets of a registry, as the engine asks for them. It owns no lane:
 * which are open, and for how long, is the engine's.
 */
import type { Base } from "../../src/executor/base.ts";
import type { LaneSource, OpenedLane } from "../../src/engine/lane_pool.ts";
import type { AdapterRegistry } from "./registry.ts";

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
