/** Qwen2 and 2.5 (arXiv 2407.10671): biases on q, k and v; the later layers may have a window. */
import type { DecoderConfig } from "../checkpoint.ts";
import type { Fields } from "../fields.ts";
import type { Architecture } from "./architecture.ts";
import { layerTypes, shortest, windowOf } from "./windows.ts";

export const QWEN2: Architecture = {
  name: "qwen2",
  defaults: {
    kvHeads: 32,
    headDim: undefined,
    maxPositions: 32_768,
    bos: undefined,
    eos: undefined,
  },
  fromConfig: (fields, shared) => ({ qkvBias: true, ...qwenWindows(fields, shared) }),
};

/** From layer `max_window_layers` on, unless `layer_types` names each layer's kind. */
export function qwenWindows(
  fields: Fields,
  { maxPositions, numLayers }: DecoderConfig,
): Partial<DecoderConfig> {
  const size = fields.has("sliding_window") ? fields.optionalCount("sliding_window") : 4096;
  const window = windowOf(size, maxPositions);
  if (window === undefined || !(fields.optionalFlag("use_sliding_window") ?? false)) return {};
  const [full, sliding] = [{ rope: 0, window: undefined }, { rope: 0, window }];
  const named = layerTypes(fields, { "full_attention": full, "sliding_attention": sliding });
  const from = Math.min(numLayers, fields.optionalNumber("max_window_layers") ?? 28);
  if (named === undefined && from >= numLayers) return {};
  const layers = named ?? [...Array(from).fill(full), ...Array(numLayers - from).fill(sliding)];
  return { layers: shortest(layers) };
}
