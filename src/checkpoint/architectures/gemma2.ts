/**
 * Gemma 2 (arXiv 2408.00118): every other layer has a window; scores and logits are capped. Trap: the
 * norms' offset, as in Gemma 3.
 */
import type { LayerForm } from "../checkpoint.ts";
import { type Architecture, plainScale } from "./architecture.ts";
import { GEMMA_NORMS } from "./gemma3.ts";
import { ggufLayers, layerTypes, shortest, windowOf } from "./windows.ts";

const CAPS = { scoreCap: 50, logitCap: 30 };
const WINDOW = 4096;
/** Layers of the 27B, whose scores are scaled by its hidden size. */
const LARGEST_LAYERS = 46;

export const GEMMA2: Architecture = {
  name: "gemma2",
  defaults: { kvHeads: 4, headDim: 256, maxPositions: 8192, bos: 2, eos: 1, tied: true },
  form: { activation: "gelu_tanh", norms: GEMMA_NORMS },
  softCaps: true,

  fromConfig(fields, { maxPositions, hiddenSize, scoreCap, logitCap }) {
    if (fields.optionalFlag("attention_bias") ?? false) {
      throw new TypeError("Cannot load the model: attention_bias must be false");
    }
    const size = fields.has("sliding_window") ? fields.optionalCount("sliding_window") : WINDOW;
    const kinds = alternating(windowOf(size, maxPositions));
    const [local, global] = kinds;
    const named = layerTypes(fields, { "sliding_attention": local, "full_attention": global });
    return {
      normOffset: 1,
      embeddingScale: Math.sqrt(hiddenSize),
      attentionScale: plainScale(fields.optionalNumber("query_pre_attn_scalar") ?? 256),
      scoreCap: fields.has("attn_logit_softcapping") ? scoreCap : CAPS.scoreCap,
      logitCap: fields.has("final_logit_softcapping") ? logitCap : CAPS.logitCap,
      layers: shortest(named ?? kinds),
    };
  },

  fromGguf(fields, shared) {
    const { hiddenSize, numHeads, numLayers, headDim, maxPositions, scoreCap, logitCap } = shared;
    const size = fields.optionalCount("attention.sliding_window") ?? WINDOW;
    const perHead = numLayers === LARGEST_LAYERS ? hiddenSize / numHeads : headDim;
    return {
      embeddingScale: Math.sqrt(hiddenSize),
      attentionScale: plainScale(perHead),
      scoreCap: scoreCap ?? CAPS.scoreCap,
      logitCap: logitCap ?? CAPS.logitCap,
      layers: ggufLayers(fields, 2, alternating(windowOf(size, maxPositions))),
    };
  },
};

function alternating(window: number | undefined): readonly [LayerForm, LayerForm] {
  return [{ rope: 0, window }, { rope: 0, window: undefined }];
}
