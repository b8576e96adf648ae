/** The base model of `deno task factors`, opened from a spec. It knows no factor. */
import { openBaseGradients } from "../../../adapters/lotr/make/base_gradients.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { resolveModel } from "../../../src/checkpoint/fetch/resolve.ts";
import type { FactorsBase } from "./matrices.ts";

/** @throws {TypeError | RangeError} where the spec names no model that can be had */
export async function loadFactorsBase(spec: string | undefined): Promise<FactorsBase> {
  const checkpoint = await openCheckpoint(await resolveModel(spec));
  return {
    checkpoint,
    openSource: () => openBaseGradients(checkpoint),
    [Symbol.dispose]: () => checkpoint.close(),
  };
}
