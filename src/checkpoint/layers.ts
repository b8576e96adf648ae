/** What a config says of single layers, which may differ in their rope and window. */
import type { DecoderConfig, LayerForm } from "./checkpoint.ts";

type Layers = Pick<DecoderConfig, "layers">;

export function layerForm({ layers }: Layers, layer: number): LayerForm {
  return layers[layer % layers.length];
}

/** The tokens that some layer looks back on; undefined where one looks back on all. */
export function widestWindow({ layers }: Layers): number | undefined {
  const widest = Math.max(...layers.map(({ window = Infinity }) => window));
  return widest === Infinity ? undefined : widest;
}

/** The fewest tokens that some layer looks back on; undefined where all look back on all. */
export function narrowestWindow({ layers }: Layers): number | undefined {
  const narrowest = Math.min(...layers.map(({ window = Infinity }) => window));
  return narrowest === Infinity ? undefined : narrowest;
}
