/**
 * GGUF metadata as a DecoderConfig, as llama.cpp reads it. It refuses what the decoder cannot
 * compute, by name. It reads no file.
 */

import {
  type Architecture,
  PLAIN_FORM,
  plainScale,
  softCapsOf,
} from "../architectures/architecture.ts";
import { GGUF, knownArchitecture } from "../architectures/table.ts";
import { windowOf } from "../architectures/windows.ts";
import type { DecoderConfig, RopeScaling } from "../checkpoint.ts";
import { checkedConfig } from "../config.ts";
import { Fields } from "../fields.ts";
import type { GgufHeader, GgufValue } from "./gguf.ts";
import { yarnScale } from "../rope_config.ts";

/** Ids that end a text: its own end, an end of turn, an end of message. */
const EOS_KEYS = ["eos", "eot", "eom"].map((name) => `tokenizer.ggml.${name}_token_id`);

/** Tensors of divisors of the rotation's frequencies: for rows of any length, or by their length. */
export const ROPE_TENSORS = {
  all: "rope_freqs.weight",
  long: "rope_factors_long.weight",
  short: "rope_factors_short.weight",
};

/** The values of a file's tensor; undefined where it has none of this name. */
type TensorValues = (name: string) => readonly number[] | undefined;

/**
 * The decoder a GGUF header describes.
 *
 * @param valuesOf reads `ROPE_TENSORS`
 * @throws {TypeError} for an unknown architecture, a missing key, or a variant that is not supported
 */
export function ggufDecoderConfig(
  header: GgufHeader,
  valuesOf: TensorValues,
): DecoderConfig {
  const all = new Fields("the GGUF metadata", Object.fromEntries(header.metadata));
  const named = all.optionalText("general.architecture") ?? "unnamed";
  const architecture = knownArchitecture(GGUF, named);
  const fields = all.under(`${named}.`);
  refuseVariants(fields);
  const caps = softCapsOf(fields, architecture);
  const hiddenSize = fields.count("embedding_length");
  const numHeads = fields.count("attention.head_count");
  const headDim = fields.optionalCount("attention.key_length") ?? hiddenSize / numHeads;
  refuseOtherWidths(fields, headDim);
  const maxPositions = fields.count("context_length");
  const window = fields.optionalNumber("attention.sliding_window") || undefined;
  const shared: DecoderConfig = {
    ...PLAIN_FORM,
    ...architecture.form,
    ...caps,
    architecture: architecture.name,
    vocabSize: vocabSize(header),
    hiddenSize,
    intermediateSize: fields.count("feed_forward_length"),
    numLayers: fields.count("block_count"),
    numHeads,
    numKvHeads: fields.optionalCount("attention.head_count_kv") ?? numHeads,
    headDim,
    maxPositions,
    rmsNormEps: fields.number("attention.layer_norm_rms_epsilon"),
    ropes: [{
      theta: fields.optionalNumber("rope.freq_base") ?? 10_000,
      scaling: scalingOf(fields, maxPositions, valuesOf),
      turned: headDim,
      interleaved: false,
    }],
    layers: [{ rope: 0, window: windowOf(window, maxPositions) }],
    attentionScale: plainScale(headDim),
    tieEmbeddings: !header.tensors.has("output.weight"),
    qkvBias: header.tensors.has("blk.0.attn_q.bias"),
    outputBias: header.tensors.has("blk.0.attn_output.bias"),
    qkNorm: qkNormOf(header),
    bosTokenId: all.optionalIds("tokenizer.ggml.bos_token_id")[0],
    eosTokenIds: [...new Set(EOS_KEYS.flatMap((key) => all.optionalIds(key)))],
  };
  const made = checkedConfig({ ...shared, ...architecture.fromGguf?.(fields, shared) });
  refusePartialRotary(fields, made);
  return made;
}

/** Refuses an architecture as soon as it is named, before a vocabulary of megabytes is read. */
export function refuseUnknown(key: string, value: GgufValue): void {
  if (key === "general.architecture") knownArchitecture(GGUF, String(value));
}

/** @throws {TypeError} naming the architecture and those that are supported */
export function architectureOf({ metadata }: Pick<GgufHeader, "metadata">): Architecture {
  return knownArchitecture(GGUF, String(metadata.get("general.architecture") ?? "unnamed"));
}

/** By the width of the weights. */
function qkNormOf({ tensors }: GgufHeader): DecoderConfig["qkNorm"] {
  const norm = tensors.get("blk.0.attn_q_norm.weight");
  if (norm === undefined) return "none";
  const queries = tensors.get("blk.0.attn_q.weight")?.shape[0];
  return norm.shape[0] === queries ? "whole" : "heads";
}

function refuseVariants(fields: Fields): void {
  const experts = fields.optionalNumber("expert_count") ?? 0;
  if (experts > 0) {
    throw new TypeError(`Cannot load the model: ${experts} experts a layer are not supported`);
  }
}

function refuseOtherWidths(fields: Fields, headDim: number): void {
  const key = "attention.value_length";
  const width = fields.optionalCount(key) ?? headDim;
  if (width === headDim) return;
  throw new TypeError(
    `Cannot load the model: ${key} must be the head size ${headDim}, current value is ${width}`,
  );
}

function refusePartialRotary(fields: Fields, { headDim, ropes: [{ turned }] }: DecoderConfig) {
  const width = fields.optionalCount("rope.dimension_count") ?? turned;
  if (width === turned) return;
  throw new TypeError(
    "Cannot load the model: rope.dimension_count must be the head size " +
      `${headDim}, current value is ${width}`,
  );
}

/** The embedding's rows: the metadata may count fewer than are stored. */
function vocabSize(header: GgufHeader): number {
  const embedding = header.tensors.get("token_embd.weight");
  if (embedding === undefined) {
    throw new TypeError("Cannot load the model: the GGUF has no tensor 'token_embd.weight'");
  }
  return embedding.shape[0] ?? 0;
}

function scalingOf(fields: Fields, maxPositions: number, valuesOf: TensorValues): RopeScaling {
  const legacy = fields.optionalNumber("rope.scale_linear");
  const named = fields.optionalText("rope.scaling.type");
  const factors = valuesOf(ROPE_TENSORS.all);
  const [long, short] = [valuesOf(ROPE_TENSORS.long), valuesOf(ROPE_TENSORS.short)];
  // llama.cpp's converter leaves LongRoPE's name out
  const unnamed = long !== undefined && short !== undefined
    ? "longrope"
    : legacy === undefined || legacy === 1
    ? "none"
    : "linear";
  const type = named ?? unnamed;
  if (factors !== undefined) {
    if (type === "none") return { type: "factors", factors };
    throw new TypeError(`Cannot load the model: it has both rope_freqs and RoPE scaling '${type}'`);
  }
  switch (type) {
    case "none":
      return { type };
    case "linear":
      return { type, factor: legacy ?? fields.number("rope.scaling.factor") };
    case "yarn":
      return yarn(fields, maxPositions);
    case "longrope":
      return longRope(fields, maxPositions, { long, short });
    default:
      throw new TypeError(
        `Cannot load the model: RoPE scaling '${type}' is not supported, ` +
          `supported are none, linear, yarn, longrope`,
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

function longRope(
  fields: Fields,
  maxPositions: number,
  { long, short }: Readonly<Record<"long" | "short", readonly number[] | undefined>>,
): RopeScaling {
  if (long === undefined || short === undefined) {
    const missing = long === undefined ? ROPE_TENSORS.long : ROPE_TENSORS.short;
    throw new TypeError(
      `Cannot load the model: RoPE scaling 'longrope' needs the tensor '${missing}'`,
    );
  }
  return {
    type: "longrope",
    short,
    long,
    originalMaxPositions: fields.optionalCount("rope.scaling.original_context_length") ??
      maxPositions,
    attentionFactor: fields.optionalNumber("rope.scaling.attn_factor") ?? 1,
  };
}
