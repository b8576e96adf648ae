/**
 * Phi-3 and Phi-4-mini (arXiv 2404.14219): Llama with q, k and v in one tensor, gate and up in another;
 * a part of each head may turn.
 */
import { partialRotary } from "../rope_config.ts";
import type { Architecture } from "./architecture.ts";
import { everywhere, windowOf } from "./windows.ts";

export const PHI3: Architecture = {
  name: "phi3",
  defaults: {
    kvHeads: undefined,
    headDim: undefined,
    maxPositions: 4096,
    bos: 1,
    eos: 32_000,
    eps: 1e-5,
  },
  fused: {
    "qkv_proj": ["q_proj", "k_proj", "v_proj"],
    "gate_up_proj": ["gate_proj", "up_proj"],
  },
  fromConfig(fields, { ropes: [rope], headDim, maxPositions }) {
    const turned = Math.floor(headDim * partialRotary(fields));
    const window = windowOf(fields.optionalCount("sliding_window"), maxPositions);
    return { ropes: [{ ...rope, turned }], ...everywhere(window) };
  },
  fromGguf(fields, { ropes: [rope], headDim }) {
    return {
      ropes: [{ ...rope, turned: fields.optionalCount("rope.dimension_count") ?? headDim }],
    };
  },
};
