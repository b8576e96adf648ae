/** Granite 3 and the dense Granite 4 (IBM): Llama with factors of embeddings, residuals, scores and logits. */
import { type Architecture, attentionBias } from "./architecture.ts";

export const GRANITE: Architecture = {
  name: "granite",
  defaults: { kvHeads: undefined, headDim: undefined, maxPositions: 2048, bos: 1, eos: 2 },
  fromConfig: (fields) => ({
    ...attentionBias(fields),
    embeddingScale: fields.optionalNumber("embedding_multiplier") ?? 1,
    residualScale: fields.optionalNumber("residual_multiplier") ?? 1,
    attentionScale: fields.optionalNumber("attention_multiplier") ?? 1,
    logitScale: 1 / (fields.optionalNumber("logits_scaling") ?? 1),
  }),
  fromGguf: (fields, { attentionScale }) => ({
    embeddingScale: fields.optionalNumber("embedding_scale") ?? 1,
    residualScale: fields.optionalNumber("residual_scale") ?? 1,
    attentionScale: fields.optionalNumber("attention.scale") ?? attentionScale,
    logitScale: 1 / (fields.optionalNumber("logit_scale") ?? 1),
  }),
  ggufRows: "interleaved",
};
