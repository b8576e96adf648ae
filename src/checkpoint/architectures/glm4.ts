/**
 * GLM-4 (0414): norms before and after, gate and up in one tensor, and a rotation of the first half of
 * each head, whose pairs lie side by side.
 */
import { partialRotary } from "../rope_config.ts";
import type { Architecture } from "./architecture.ts";

const SHARE = 0.5;

export const GLM4: Architecture = {
  name: "glm4",
  defaults: {
    kvHeads: 2,
    headDim: 128,
    maxPositions: 131_072,
    bos: undefined,
    eos: 151_329,
    eps: 1.5625e-7,
  },
  form: {
    norms: {
      beforeAttention: "input_layernorm",
      afterAttention: "post_self_attn_layernorm",
      beforeMlp: "post_attention_layernorm",
      afterMlp: "post_mlp_layernorm",
    },
  },
  fused: { "gate_up_proj": ["gate_proj", "up_proj"] },
  fromConfig(fields, { ropes: [rope], headDim }) {
    const turned = Math.floor(headDim * partialRotary(fields, SHARE));
    const qkvBias = fields.optionalFlag("attention_bias") ?? true;
    return { qkvBias, ropes: [{ ...rope, turned, interleaved: true }] };
  },
  fromGguf(fields, { ropes: [rope], headDim }) {
    const turned = fields.optionalCount("rope.dimension_count") ?? headDim * SHARE;
    return { ropes: [{ ...rope, turned, interleaved: true }] };
  },
};
