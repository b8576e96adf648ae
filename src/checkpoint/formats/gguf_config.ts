/**
 * GGUF metadata as a DecoderConfig, as llama.cpp reads it. It refuses what the decoder cannot
 * compute, by name. It reads no file.
 */

import type { DecoderConfig, RopeScaling } from "../checkpoint.ts";
import { checkedConfig, knownArchitecture, refuseSoftCaps } from "../config.ts";
import { Fields } from "../fields.ts";
import type { GgufHeader } from "./gguf.ts";
import { yarnScale } from "../rope_config.ts";

/** Ids that end a text: its own end, an end of turn, an end of message. */
const EOS_KEYS = ["eos", "eot", "eom"].map((name) => `tokenizer.ggml.${name}_token_id`);

/**
 * The decoder a GGUF header describes.
 *
 * @param ropeFactors the values of its `rope_freqs.weight`, where it has that tensor
 * @throws {TypeError} for an unknown architecture, a missing key, or a variant that is not supported
 */
export function ggufDecoderConfig(
  header: GgufHeader,
  ropeFactors: readonly number[] | undefined,
): DecoderConfig {
  const all = new Fields("the GGUF metadata", Object.fromEntries(header.metadata));
  const architecture = knownArchitecture(all.optionalText("general.architecture") ?? "unnamed");
  const fields = all.under(`${architecture}.`);
  refuseVariants(all, fields);
  const hiddenSize = fields.count("embedding_length");
  const numHeads = fields.count("attention.head_count");
  const headDim = fields.optionalCount("attention.key_length") ?? hiddenSize / numHeads;
  refuseOtherWidths(fields, headDim);
  const maxPositions = fields.count("context_length");
  const window = fields.optionalNumber("attention.sliding_window") ?? 0;
  return checkedConfig({
    architecture,
    vocabSize: vocabSize(header),
    hiddenSize,
    intermediateSize: fields.count("feed_forward_length"),
    numLayers: fields.count("block_count"),
    numHeads,
    numKvHeads: fields.optionalCount("attention.head_count_kv") ?? numHeads,
    headDim,
    maxPositions,
    rmsNormEps: fields.number("attention.layer_norm_rms_epsilon"),
    ropeTheta: fields.optionalNumber("rope.freq_base") ?? 10_000,
    ropeScaling: scalingOf(fields, maxPositions, ropeFactors),
    tieEmbeddings: !header.tensors.has("output.weight"),
    qkvBias: header.tensors.has("blk.0.attn_q.bias"),
    outputBias: header.tensors.has("blk.0.attn_output.bias"),
    qkNorm: header.tensors.has("blk.0.attn_q_norm.weight"),
    slidingWindow: window > 0 && window < maxPositions ? window : undefined,
    bosTokenId: all.optionalIds("tokenizer.ggml.bos_token_id")[0],
    eosTokenIds: [...new Set(EOS_KEYS.flatMap((key) => all.optionalIds(key)))],
  });
}

function refuseVariants(all: Fields, fields: Fields): void {
  const parts = all.optionalNumber("split.count") ?? 1;
  if (parts > 1) {
    throw new TypeError(
      `Cannot load the model: the file is one of ${parts} parts, join them first`,
    );
  }
  const experts = fields.optionalNumber("expert_count") ?? 0;
  if (experts > 0) {
    throw new TypeError(`Cannot load the model: ${experts} experts a layer are not supported`);
  }
  refuseSoftCaps(fields);
}

function refuseOtherWidths(fields: Fields, headDim: number): void {
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    const width = fields.optionalCount(key) ?? headDim;
    if (width !== headDim) {
      throw new TypeError(
        `Cannot load the model: ${key} must be the head size ${headDim}, current value is ${width}`,
      );
    }
  }
}

/** The embedding's rows: the metadata may count fewer than are stored. */
function vocabSize(header: GgufHeader): number {
  const embedding = header.tensors.get("token_embd.weight");
  if (embedding === undefined) {
    throw new TypeError("Cannot load the model: the GGUF has no tensor 'token_embd.weight'");
  }
  return embedding.shape[0] ?? 0;
}

function scalingOf(
  fields: Fields,
  maxPositions: number,
  ropeFactors: readonly number[] | undefined,
): RopeScaling {
  const legacy = fields.optionalNumber("rope.scale_linear");
  const named = fields.optionalText("rope.scaling.type");
  const type = named ?? (legacy === undefined || legacy === 1 ? "none" : "linear");
  if (ropeFactors !== undefined) {
    if (type === "none") return { type: "factors", factors: ropeFactors };
    throw new TypeError(`Cannot load the model: it has both rope_freqs and RoPE scaling '${type}'`);
  }
  switch (type) {
    case "none":
      return { type };
    case "linear":
      return { type, factor: legacy ?? fields.number("rope.scaling.factor") };
    case "yarn":
      return yarn(fields, maxPositions);
    default:
      throw new TypeError(
        `Cannot load the model: RoPE scaling '${type}' is not supported, ` +
          `supported are none, linear, yarn`,
      );
  }
}

/** ggml multiplies its own 0.1 · ln(factor) + 1 by `attn_factor`. */
function yarn(fields: Fields, maxPositions: number): RopeScaling {
  const factor = fields.number("rope.scaling.factor");
  const scale = fields.optionalNumber("rope.scaling.attn_factor") ?? 1;
  return {
    type: "yarn",
    factor,
    originalMaxPositions: fields.optionalCount("rope.scaling.original_context_length") ??
      maxPositions,
    betaFast: fields.optionalNumber("rope.scaling.yarn_beta_fast") ?? 32,
    betaSlow: fields.optionalNumber("rope.scaling.yarn_beta_slow") ?? 1,
    attentionFactor: scale * yarnScale(factor, 1),
    truncate: true,
  };
}
