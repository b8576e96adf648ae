/**
 * The weights a decoder of a given config has: names and shapes. A checkpoint with one missing, of
 * another shape, or with one that would be silently left out is refused. It reads no values.
 */

import type { DecoderConfig, WeightSource } from "./checkpoint.ts";

/** What files carry beside the weights: buffers of old versions, and a tied head's copy. */
const HARMLESS = [/\.rotary_emb\.inv_freq$/, /^lm_head\.weight$/];

/** Every weight of the decoder by Hugging Face's name, with its shape, in the model's order. */
export function expectedWeights(config: DecoderConfig): ReadonlyMap<string, readonly number[]> {
  const { vocabSize, hiddenSize, numLayers, tieEmbeddings } = config;
  const shapes = new Map<string, readonly number[]>();
  shapes.set("model.embed_tokens.weight", [vocabSize, hiddenSize]);
  for (let layer = 0; layer < numLayers; layer++) {
    for (const [name, shape] of layerWeights(config)) {
      shapes.set(`model.layers.${layer}.${name}`, shape);
    }
  }
  shapes.set("model.norm.weight", [hiddenSize]);
  if (!tieEmbeddings) shapes.set("lm_head.weight", [vocabSize, hiddenSize]);
  return shapes;
}

/** @throws {TypeError} naming the first weight that is missing, misshapen or unknown */
export function checkWeights(config: DecoderConfig, weights: WeightSource): void {
  const count = weights.names().length;
  if (config.numLayers > count) {
    // Before the names of that many layers are made.
    throw new TypeError(
      `Cannot load the model: the config says ${config.numLayers} layers, there are ${count} weights`,
    );
  }
  const expected = expectedWeights(config);
  for (const [name, shape] of expected) {
    if (!weights.has(name)) {
      throw new TypeError(`Cannot load the model: it has no weight '${name}'`);
    }
    const actual = weights.info(name).shape;
    if (actual.length !== shape.length || actual.some((n, i) => n !== shape[i])) {
      throw new TypeError(
        `Cannot load weight '${name}': its shape is [${actual}], the config wants [${shape}]`,
      );
    }
  }
  for (const name of weights.names()) {
    if (!expected.has(name) && !HARMLESS.some((pattern) => pattern.test(name))) {
      throw new TypeError(
        `Cannot load the model: a ${config.architecture} decoder has no weight '${name}'`,
      );
    }
  }
}

function layerWeights(config: DecoderConfig): readonly (readonly [string, readonly number[]])[] {
  const { hiddenSize, intermediateSize, headDim } = config;
  const queries = config.numHeads * headDim;
  const keys = config.numKvHeads * headDim;
  const qkvBiases = [
    ["self_attn.q_proj.bias", [queries]],
    ["self_attn.k_proj.bias", [keys]],
    ["self_attn.v_proj.bias", [keys]],
  ] as const;
  const whole = config.qkNorm === "whole";
  const norms = [
    ["self_attn.q_norm.weight", [whole ? queries : headDim]],
    ["self_attn.k_norm.weight", [whole ? keys : headDim]],
  ] as const;
  const { beforeAttention, afterAttention, beforeMlp, afterMlp } = config.norms;
  const named = (...norms: readonly (string | undefined)[]) =>
    norms.flatMap((norm) => norm === undefined ? [] : [[`${norm}.weight`, [hiddenSize]] as const]);
  return [
    ...named(beforeAttention),
    ["self_attn.q_proj.weight", [queries, hiddenSize]],
    ["self_attn.k_proj.weight", [keys, hiddenSize]],
    ["self_attn.v_proj.weight", [keys, hiddenSize]],
    ["self_attn.o_proj.weight", [hiddenSize, queries]],
    ...(config.qkvBias ? qkvBiases : []),
    ...(config.outputBias ? [["self_attn.o_proj.bias", [hiddenSize]]] as const : []),
    ...(config.qkNorm === "none" ? [] : norms),
    ...named(afterAttention, beforeMlp),
    ["mlp.gate_proj.weight", [intermediateSize, hiddenSize]],
    ["mlp.up_proj.weight", [intermediateSize, hiddenSize]],
    ["mlp.down_proj.weight", [hiddenSize, intermediateSize]],
    ...named(afterMlp),
  ];
}

/** Numbers of all weights together. */
export function numbersOf(weights: WeightSource): number {
  const counts = weights.names().map((name) => weights.info(name).shape.reduce((a, b) => a * b, 1));
  return counts.reduce((sum, count) => sum + count, 0);
}
