/** SmolLM3: Llama whose every fourth layer tells no positions (NoPE, arXiv 2501.18795). */
import type { DecoderConfig, LayerForm } from "../checkpoint.ts";
import type { Fields } from "../fields.ts";
import { type Architecture, attentionBias } from "./architecture.ts";
import { shortest, windowOf } from "./windows.ts";

const INTERVAL = 4;

export const SMOLLM3: Architecture = {
  name: "smollm3",
  defaults: {
    kvHeads: 4,
    headDim: undefined,
    maxPositions: 32_768,
    bos: 128_000,
    eos: 128_001,
    tied: true,
    theta: 2_000_000,
  },
  fromConfig(fields, shared) {
    const size = fields.optionalFlag("use_sliding_window") ?? false
      ? fields.optionalCount("sliding_window")
      : undefined;
    const window = windowOf(size, shared.maxPositions);
    const layers = rotatedOf(fields, shared.numLayers)
      .map((rotated) => rotated ? ROTATED : { rope: 1, window });
    return { ...attentionBias(fields), ...positions(shared, layers) };
  },
  fromGguf(_, shared) {
    const layers = Array.from({ length: INTERVAL }, (_, i) => isRotated(i) ? ROTATED : PLAIN);
    return positions(shared, layers);
  },
  ggufRows: "interleaved",
};

const ROTATED: LayerForm = { rope: 0, window: undefined };
const PLAIN: LayerForm = { rope: 1, window: undefined };

function isRotated(layer: number, interval = INTERVAL): boolean {
  return (layer + 1) % interval !== 0;
}

/** `no_rope_layers` has, for each layer, whether positions are told. */
function rotatedOf(fields: Fields, numLayers: number): readonly boolean[] {
  const named = fields.optionalIds("no_rope_layers");
  if (named.length > 0) return named.map((told) => told !== 0);
  const interval = fields.optionalCount("no_rope_layer_interval") ?? INTERVAL;
  return Array.from({ length: Math.min(interval, numLayers) }, (_, i) => isRotated(i, interval));
}

function positions(
  { ropes: [rope] }: DecoderConfig,
  layers: readonly LayerForm[],
): Partial<DecoderConfig> {
  return { ropes: [rope, { ...rope, turned: 0 }], layers: shortest(layers) };
}
