/** Llama (arXiv 2302.13971), and what is built like it: SmolLM2, Yi, DeepSeek's distillates. */
import { type Architecture, attentionBias } from "./architecture.ts";

export const LLAMA: Architecture = {
  name: "llama",
  defaults: { kvHeads: undefined, headDim: undefined, maxPositions: 2048, bos: 1, eos: 2 },
  fromConfig: attentionBias,
  ggufRows: "interleaved",
};
