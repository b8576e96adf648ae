/** Channel scales as calibration might give them, without any: random, and shared where they must be. */
import type { DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { inputsOf } from "../../src/models/widths.ts";
import { type SiteName, SITES } from "../../src/models/hook.ts";
import type { Smoothing } from "../../src/models/parameters.ts";
import { isScalable, sharedByHeads } from "../../src/models/smooth.ts";

/** `draw` makes the scales of one site, or of the head. */
export function scalesOf(
  config: DecoderConfig,
  draw: (width: number) => Float32Array,
): Smoothing {
  const of = (site: SiteName) => {
    const scales = draw(inputsOf(config, site));
    if (!isScalable(config, site)) return scales.fill(1);
    return site === "attn_out" ? sharedByHeads(scales, config) : scales;
  };
  const layers = Array.from(
    { length: config.numLayers },
    () => Object.fromEntries(SITES.map((site) => [site, of(site)])),
  );
  return { layers: layers as unknown as Smoothing["layers"], head: draw(config.hiddenSize) };
}
