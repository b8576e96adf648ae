/** Qwen3 (arXiv 2505.09388): RMSNorm over each head of q and k, a head's size of its own. */
import { type Architecture, attentionBias } from "./architecture.ts";
import { qwenWindows } from "./qwen2.ts";

export const QWEN3: Architecture = {
  name: "qwen3",
  defaults: { kvHeads: 32, headDim: 128, maxPositions: 32_768, bos: undefined, eos: undefined },
  form: { qkNorm: "heads" },
  fromConfig: (fields, shared) => ({ ...attentionBias(fields), ...qwenWindows(fields, shared) }),
};
