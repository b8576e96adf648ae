/**
 * An encoder's parameters as its graph names them: the checkpoint's weights, MPNet's bias for each
 * distance, and the factors of a hook.
 */
import type { EncoderCheckpoint } from "../../checkpoint/encoder/open.ts";
import type { ParameterSource, Rows } from "../../graph/graph.ts";
import type { LinearHook, ModuleName, SiteName } from "../hook.ts";
import { encoderNames } from "./encoder.ts";

export class EncoderParameters implements ParameterSource {
  readonly #checkpoint: Pick<EncoderCheckpoint, "config" | "weights">;
  readonly #hook: LinearHook | undefined;

  constructor(
    checkpoint: Pick<EncoderCheckpoint, "config" | "weights">,
    hook: LinearHook | undefined,
  ) {
    this.#checkpoint = checkpoint;
    this.#hook = hook;
  }

  read(name: string, options: { readonly rows?: Rows } = {}): Float32Array {
    if (name === encoderNames.distances) return this.#distances();
    const [, , what, of] = /^lotr\.(\d+)\.([ab])\.(.+)$/.exec(name) ?? [];
    if (what !== undefined) return this.#factor(what, of);
    return this.#checkpoint.weights.read(name, options);
  }

  #factor(what: string, of: string): Float32Array {
    const hook = this.#hook;
    if (hook === undefined) throw new TypeError(`internal: factor ${of} without a hook`);
    return what === "a" ? hook.a(of as SiteName) : hook.b(of as ModuleName);
  }

  /** [H, 2·P - 1]: by head and distance, from -(P - 1) on. */
  #distances(): Float32Array {
    const { numHeads, maxPositions, relativeBuckets = 0 } = this.#checkpoint.config;
    const stored = this.#checkpoint.weights.read(encoderNames.relativeBias);
    const count = 2 * maxPositions - 1;
    return Float32Array.from({ length: numHeads * count }, (_, i) => {
      const [head, distance] = [Math.floor(i / count), i % count - (maxPositions - 1)];
      return stored[bucketOf(distance, relativeBuckets) * numHeads + head];
    });
  }
}

/** Distances from which on all are one. */
const FARTHEST = 128;

/** T5's buckets, for both directions (arXiv 1910.10683): near ones by one, far ones by their log. */
export function bucketOf(distance: number, buckets: number): number {
  const half = Math.floor(buckets / 2);
  const exact = Math.floor(half / 2);
  const [side, far] = [distance > 0 ? half : 0, Math.abs(distance)];
  if (far < exact) return side + far;
  // in float32, as PyTorch does
  const share = Math.fround(
    Math.fround(Math.log(Math.fround(far / exact))) / Math.log(FARTHEST / exact),
  );
  const large = exact + Math.floor(Math.fround(share * (half - exact)));
  return side + Math.min(large, half - 1);
}
