/** OLMo 2 (arXiv 2501.00656): norms of what attention and MLP put out alone, and of q and k as wholes. */
import { type Architecture, attentionBias } from "./architecture.ts";

export const OLMO2: Architecture = {
  name: "olmo2",
  defaults: {
    kvHeads: undefined,
    headDim: undefined,
    maxPositions: 2048,
    bos: undefined,
    eos: 50_279,
    eps: 1e-5,
  },
  form: {
    norms: {
      afterAttention: "post_attention_layernorm",
      afterMlp: "post_feedforward_layernorm",
    },
    qkNorm: "whole",
  },
  fromConfig: attentionBias,
  fromGguf(fields) {
    const window = fields.optionalNumber("attention.sliding_window") ?? 0;
    if (window === 0) return {};
    // OLMo 3 under OLMo 2's name
    throw new TypeError(
      `Cannot load the model: attention.sliding_window must be absent, current value is ${window}`,
    );
  },
};
