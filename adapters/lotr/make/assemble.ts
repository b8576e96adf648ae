/**
 * What every maker of factor sets begins and ends with: options checked and completed, and the
 * matrices put together into a set.
 */
import { type ModuleName, SITE_OF, type SiteName } from "../../../src/models/hook.ts";
import { FactorSet } from "../factors.ts";
import type { Dense } from "../linalg.ts";
import {
  checkRank,
  DEFAULT_MODULES,
  DEFAULT_RANK,
  parseModules,
  sitesOf,
  type Stack,
} from "../stack.ts";

export interface MakerOptions {
  readonly stack: Stack;
  /** 1 to 64, and at most the narrowest adapted input or output. Default 32. */
  readonly rank?: number | undefined;
  /** Default q_proj and v_proj. */
  readonly modules?: readonly ModuleName[] | undefined;
}

/** Options with nothing left open. */
export interface Settled {
  readonly stack: Stack;
  readonly rank: number;
  readonly modules: readonly ModuleName[];
}

/** @throws {RangeError | TypeError} for a rank or modules that are not possible */
export function settle(options: MakerOptions): Settled {
  const { stack, rank = DEFAULT_RANK } = options;
  const modules = parseModules(options.modules ?? DEFAULT_MODULES);
  checkRank(rank);
  for (const module of modules) {
    const narrow = Math.min(stack.inputs[SITE_OF[module]], stack.outputs[module]);
    if (rank > narrow) {
      throw new RangeError(`Cannot use rank ${rank}: ${module} has only width ${narrow}`);
    }
  }
  return { stack, rank, modules };
}

/** A set of A [d_in, rank] for each site and B [rank, d_out] for each module. */
export function assemble(
  { stack, rank, modules }: Settled,
  alpha: number,
  a: (site: SiteName) => Dense,
  b: (module: ModuleName) => Dense,
): FactorSet {
  return new FactorSet({
    base: stack.base,
    layers: stack.layers,
    rank,
    alpha,
    modules,
    a: new Map(sitesOf(modules).map((site) => [site, Float32Array.from(a(site).data)])),
    b: new Map(modules.map((module) => [module, Float32Array.from(b(module).data)])),
  });
}
