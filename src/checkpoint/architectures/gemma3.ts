/**
 * Gemma 3 (arXiv 2503.19786), its text alone: five layers with a window and a rotation of their own,
 * then one over everything; norms before and after attention and MLP. Trap: its norms multiply by 1 + w
 * in safetensors, and by w in GGUF files, whose metadata leaves out the pattern of layers.
 */
import type { DecoderConfig, DecoderForm, LayerForm } from "../checkpoint.ts";
import type { Fields } from "../fields.ts";
import { ropeOf, unscaled } from "../rope_config.ts";
import { type Architecture, plainScale } from "./architecture.ts";
import { ggufLayers, layerTypes, shortest, windowOf } from "./windows.ts";

/** Norms before and after, under Gemma's names. */
export const GEMMA_NORMS: DecoderForm["norms"] = {
  beforeAttention: "input_layernorm",
  afterAttention: "post_attention_layernorm",
  beforeMlp: "pre_feedforward_layernorm",
  afterMlp: "post_feedforward_layernorm",
};

const LOCAL_THETA = 10_000;
/** One layer in so many sees everything. */
const PATTERN = 6;
/** Layers of the 27B, whose scores are scaled by its hidden size. */
const LARGEST_LAYERS = 62;

export const GEMMA3: Architecture = {
  name: "gemma3",
  defaults: { kvHeads: 1, headDim: 256, maxPositions: 131_072, bos: 2, eos: 1, tied: true },
  softCaps: true,
  form: { activation: "gelu_tanh", norms: GEMMA_NORMS, qkNorm: "heads" },

  fromConfig(fields, shared) {
    if (fields.optionalFlag("use_bidirectional_attention") ?? false) {
      throw new TypeError("Cannot load the model: use_bidirectional_attention must be false");
    }
    const { maxPositions, headDim, hiddenSize } = shared;
    const size = fields.optionalCount("sliding_window") ?? 4096;
    const [local, global] = kinds(windowOf(size, maxPositions));
    const named = layerTypes(fields, { "sliding_attention": local, "full_attention": global });
    const pattern = fields.optionalCount("sliding_window_pattern") ?? PATTERN;
    return {
      normOffset: 1,
      embeddingScale: Math.sqrt(hiddenSize),
      attentionScale: plainScale(fields.optionalNumber("query_pre_attn_scalar") ?? 256),
      ropes: ropesOf(fields, maxPositions, headDim),
      layers: named === undefined ? repeated(local, global, pattern) : shortest(named),
    };
  },

  fromGguf(fields, shared) {
    const { hiddenSize, numHeads, numLayers, headDim, ropes, layers } = shared;
    const size = fields.optionalNumber("attention.sliding_window") ?? 0;
    const [local, global] = kinds(layers[0]?.window);
    const theta = fields.optionalNumber("rope.freq_base_swa") ?? LOCAL_THETA;
    const perHead = numLayers === LARGEST_LAYERS ? hiddenSize / numHeads : headDim;
    return {
      embeddingScale: Math.sqrt(hiddenSize),
      attentionScale: plainScale(perHead),
      ropes: [...ropes, unscaled(theta, headDim)],
      layers: size === 0 ? [global] : ggufLayers(fields, PATTERN, [local, global]),
    };
  },
};

function kinds(window: number | undefined): readonly [LayerForm, LayerForm] {
  return [{ rope: 1, window }, { rope: 0, window: undefined }];
}

function repeated(local: LayerForm, global: LayerForm, pattern: number): readonly LayerForm[] {
  return [...Array<LayerForm>(pattern - 1).fill(local), global];
}

/** Of layers over everything and of those with a window: one object each, or fields of two names. */
function ropesOf(fields: Fields, maxPositions: number, headDim: number): DecoderConfig["ropes"] {
  const both = fields.optionalObject("rope_parameters");
  const [full, local] = ["full_attention", "sliding_attention"].map((kind) =>
    both?.optionalObject(kind)
  );
  const given = { maxPositions, headDim, theta: 1_000_000 };
  const localTheta = fields.optionalNumber("rope_local_base_freq") ?? LOCAL_THETA;
  return [
    ropeOf(fields, full ?? fields.optionalObject("rope_scaling"), given),
    local === undefined
      ? unscaled(localTheta, headDim)
      : ropeOf(fields, local, { ...given, theta: localTheta }),
  ];
}
