/**
 * Hugging Face's `config.json` and `generation_config.json` as a DecoderConfig, with the defaults
 * of transformers' configuration classes. It refuses what the decoder cannot compute, by name.
 */

import {
  type Architecture,
  type ClassDefaults,
  PLAIN_FORM,
  plainScale,
  softCapsOf,
} from "./architectures/architecture.ts";
import { knownArchitecture, SAFETENSORS } from "./architectures/table.ts";
import type { DecoderConfig, DecoderForm } from "./checkpoint.ts";
import { Fields } from "./fields.ts";
import { quantisationOf } from "./quantisation.ts";
import { partialRotary, ropeFields, ropeOf } from "./rope_config.ts";

/**
 * The decoder a `config.json` describes.
 *
 * @param config the parsed `config.json`
 * @param generation the parsed `generation_config.json`, whose end tokens count too
 * @throws {TypeError} for an unknown architecture, a field of the wrong type, or a variant that is
 * not supported (quantised weights, other activations, …)
 */
export function decoderConfig(config: unknown, generation?: unknown): DecoderConfig {
  const fields = new Fields("config.json", config);
  const architecture = namedArchitecture(fields);
  refuseVariants(fields);
  const shared = {
    ...sharedConfig(fields, architecture, generation),
    ...softCapsOf(fields, architecture),
  };
  const made = checkedConfig({ ...shared, ...architecture.fromConfig?.(fields, shared) });
  refuseLeftOut(fields, made);
  return made;
}

/** @throws {TypeError} naming the architecture and those that are supported */
export function namedArchitecture(fields: Fields): Architecture {
  return knownArchitecture(SAFETENSORS, fields.optionalText("model_type") ?? "unnamed");
}

/** What every architecture's config says alike, for blocks as `PLAIN_FORM` has them. */
function sharedConfig(
  fields: Fields,
  { name, defaults, form }: Architecture,
  generation: unknown,
): DecoderConfig {
  const hiddenSize = fields.count("hidden_size");
  const numHeads = fields.count("num_attention_heads");
  const kvHeads = fields.has("num_key_value_heads")
    ? fields.optionalCount("num_key_value_heads")
    : defaults.kvHeads;
  const headDim = fields.optionalCount("head_dim") ?? defaults.headDim ?? hiddenSize / numHeads;
  const maxPositions = fields.optionalCount("max_position_embeddings") ?? defaults.maxPositions;
  return {
    ...PLAIN_FORM,
    ...form,
    architecture: name,
    vocabSize: fields.count("vocab_size"),
    hiddenSize,
    intermediateSize: fields.count("intermediate_size"),
    numLayers: fields.count("num_hidden_layers"),
    numHeads,
    numKvHeads: kvHeads ?? numHeads,
    headDim,
    maxPositions,
    rmsNormEps: fields.optionalNumber("rms_norm_eps") ?? defaults.eps ?? 1e-6,
    ropes: [
      ropeOf(fields, ropeFields(fields), { maxPositions, headDim, theta: defaults.theta }),
    ],
    layers: [{ rope: 0, window: undefined }],
    attentionScale: plainScale(headDim),
    tieEmbeddings: fields.optionalFlag("tie_word_embeddings") ?? defaults.tied ?? false,
    qkvBias: false,
    outputBias: false,
    ...specialTokens(fields, new Fields("generation_config.json", generation ?? {}), defaults),
  };
}

/** @throws {TypeError} where the numbers of a config contradict each other */
export function checkedConfig(config: DecoderConfig): DecoderConfig {
  const { headDim, numHeads, numKvHeads } = config;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new TypeError(
      `Cannot load the model: head_dim must be even, current value is ${headDim}`,
    );
  }
  if (numHeads % numKvHeads !== 0) {
    throw new TypeError(
      `Cannot load the model: ${numHeads} heads are no multiple of ${numKvHeads} key-value heads`,
    );
  }
  return config;
}

function refuseVariants(fields: Fields): void {
  for (const name of fields.optionalTexts("architectures") ?? []) {
    if (!name.endsWith("ForCausalLM")) {
      throw new TypeError(`Cannot load architecture '${name}': it is no causal language model`);
    }
  }
  if (fields.optionalFlag("mlp_bias") ?? false) {
    throw new TypeError("Cannot load the model: mlp_bias must be false, current value is true");
  }
  quantisationOf(fields);
}

/** Transformers' names of activations. */
const ACTIVATIONS: Readonly<Record<DecoderForm["activation"], string>> = {
  silu: "silu",
  "gelu_tanh": "gelu_pytorch_tanh",
};

/** Refuses fields that ask for something which the architecture did not take up, as transformers'. */
function refuseLeftOut(fields: Fields, made: DecoderConfig): void {
  const wanted = ACTIVATIONS[made.activation];
  for (const name of ["hidden_act", "hidden_activation"]) {
    const activation = fields.optionalText(name) ?? wanted;
    if (activation === wanted) continue;
    throw new TypeError(
      `Cannot load the model: ${name} must be ${wanted}, current value is ${activation}`,
    );
  }
  const partial = partialRotary(fields);
  if (partial !== 1 && made.ropes.every(({ turned }) => turned === made.headDim)) {
    throw new TypeError(
      `Cannot load the model: partial_rotary_factor must be 1, current value is ${partial}`,
    );
  }
}

function specialTokens(
  config: Fields,
  generation: Fields,
  defaults: ClassDefaults,
): Pick<DecoderConfig, "bosTokenId" | "eosTokenIds"> {
  const ownEos = config.has("eos_token_id")
    ? config.optionalIds("eos_token_id")
    : defaults.eos === undefined
    ? []
    : [defaults.eos];
  const eosTokenIds = [...new Set([...ownEos, ...generation.optionalIds("eos_token_id")])];
  const [ownBos] = config.optionalIds("bos_token_id");
  const bosTokenId = config.has("bos_token_id") ? ownBos : defaults.bos;
  return { bosTokenId, eosTokenIds };
}
