/** Which layers of a model attend to a sliding window, from `config.json` or a GGUF's metadata. */
import type { DecoderConfig, LayerForm } from "../checkpoint.ts";
import type { Fields } from "../fields.ts";

/** A window that no row outgrows is none. */
export function windowOf(size: number | undefined, maxPositions: number): number | undefined {
  return size === undefined || size >= maxPositions ? undefined : size;
}

/** All layers alike. */
export function everywhere(window: number | undefined): Pick<DecoderConfig, "layers"> {
  return { layers: [{ rope: 0, window }] };
}

/** What `layer_types` says of each layer; undefined where it is not there. */
export function layerTypes<T>(
  fields: Fields,
  kinds: Readonly<Record<string, T>>,
): readonly T[] | undefined {
  return fields.optionalTexts("layer_types")?.map((type) => {
    if (Object.hasOwn(kinds, type)) return kinds[type];
    throw new TypeError(
      `Cannot load the model: layer_types has '${type}', supported are ${Object.keys(kinds)}`,
    );
  });
}

/**
 * Layers by a GGUF's pattern: a flag a layer, whether it has the window, or how many layers there are to
 * one that has none.
 */
export function ggufLayers(
  fields: Fields,
  period: number,
  [local, global]: readonly [LayerForm, LayerForm],
): readonly LayerForm[] {
  const pattern = fields.optionalCountOrFlags("attention.sliding_window_pattern") ?? period;
  const flags = typeof pattern === "number"
    ? Array.from({ length: pattern }, (_, i) => i < pattern - 1)
    : pattern;
  return shortest(flags.map((windowed) => windowed ? local : global));
}

/** Layers with the same form again and again as one. */
export function shortest(layers: readonly LayerForm[]): readonly LayerForm[] {
  const [first] = layers;
  if (first === undefined) return layers;
  const same = layers.every(({ rope, window }) => rope === first.rope && window === first.window);
  return same ? [first] : layers;
}
