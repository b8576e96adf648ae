/**
 * Hugging Face's `config.json` and `generation_config.json` as a DecoderConfig, with the defaults
 * of transformers' configuration classes. It refuses what the decoder cannot compute, by name.
 */

import type { DecoderConfig } from "./checkpoint.ts";
import { Fields } from "./fields.ts";
import { quantisationOf } from "./quantisation.ts";
import { ropeOf } from "./rope_config.ts";

/** The architectures a decoder can be built for, by Hugging Face's `model_type`. */
export const ARCHITECTURES = ["llama", "mistral", "qwen2", "qwen3"] as const;
export type Architecture = typeof ARCHITECTURES[number];

/** What transformers' class says where config.json is silent. */
interface ClassDefaults {
  readonly kvHeads: number | undefined;
  readonly headDim: number | undefined;
  readonly maxPositions: number;
  readonly bos: number | undefined;
  readonly eos: number | undefined;
}

const CLASS_DEFAULTS: Readonly<Record<Architecture, ClassDefaults>> = {
  llama: { kvHeads: undefined, headDim: undefined, maxPositions: 2048, bos: 1, eos: 2 },
  mistral: { kvHeads: 8, headDim: undefined, maxPositions: 131072, bos: 1, eos: 2 },
  qwen2: {
    kvHeads: 32,
    headDim: undefined,
    maxPositions: 32768,
    bos: undefined,
    eos: undefined,
  },
  qwen3: { kvHeads: 32, headDim: 128, maxPositions: 32768, bos: undefined, eos: undefined },
};

/**
 * The decoder a `config.json` describes.
 *
 * @param config the parsed `config.json`
 * @param generation the parsed `generation_config.json`, whose end tokens count too
 * @throws {TypeError} for an unknown architecture, a field of the wrong type, or a variant that is
 * not supported (quantised weights, other activations, mixed attention, …)
 */
export function decoderConfig(config: unknown, generation?: unknown): DecoderConfig {
  const fields = new Fields("config.json", config);
  const architecture = knownArchitecture(fields.optionalText("model_type") ?? "unnamed");
  refuseVariants(fields);
  const defaults = CLASS_DEFAULTS[architecture];
  const hiddenSize = fields.count("hidden_size");
  const numHeads = fields.count("num_attention_heads");
  const kvHeads = fields.has("num_key_value_heads")
    ? fields.optionalCount("num_key_value_heads")
    : defaults.kvHeads;
  const headDim = fields.optionalCount("head_dim") ?? defaults.headDim ?? hiddenSize / numHeads;
  const maxPositions = fields.optionalCount("max_position_embeddings") ?? defaults.maxPositions;
  const bias = fields.optionalFlag("attention_bias") ?? false;
  const hasBias = architecture === "llama" || architecture === "qwen3";
  return checkedConfig({
    architecture,
    vocabSize: fields.count("vocab_size"),
    hiddenSize,
    intermediateSize: fields.count("intermediate_size"),
    numLayers: fields.count("num_hidden_layers"),
    numHeads,
    numKvHeads: kvHeads ?? numHeads,
    headDim,
    maxPositions,
    rmsNormEps: fields.optionalNumber("rms_norm_eps") ?? 1e-6,
    ...ropeOf(fields, maxPositions),
    tieEmbeddings: fields.optionalFlag("tie_word_embeddings") ?? false,
    qkvBias: architecture === "qwen2" || (hasBias && bias),
    outputBias: hasBias && bias,
    qkNorm: architecture === "qwen3",
    slidingWindow: slidingWindow(fields, architecture, maxPositions),
    ...specialTokens(fields, new Fields("generation_config.json", generation ?? {}), defaults),
  });
}

/** @throws {TypeError} naming the architecture and those that are supported */
export function knownArchitecture(name: string): Architecture {
  const known = ARCHITECTURES.find((architecture) => architecture === name);
  if (known === undefined) {
    throw new TypeError(
      `Cannot load architecture '${name}': supported are ${ARCHITECTURES.join(", ")}`,
    );
  }
  return known;
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
  const activation = fields.optionalText("hidden_act") ?? "silu";
  if (activation !== "silu") {
    throw new TypeError(
      `Cannot load the model: hidden_act must be silu, current value is ${activation}`,
    );
  }
  if (fields.optionalFlag("mlp_bias") ?? false) {
    throw new TypeError("Cannot load the model: mlp_bias must be false, current value is true");
  }
  refuseSoftCaps(fields);
  quantisationOf(fields);
}

/**
 * Scores and logits that are bent towards a largest value, as Gemma 2 does: its architectures are not
 * supported, and ONNX Runtime's attention ignores the cap on WebGPU without a word.
 * @throws {TypeError} naming the cap
 */
export function refuseSoftCaps(fields: Fields): void {
  for (const name of ["attn_logit_softcapping", "final_logit_softcapping"]) {
    const cap = fields.optionalNumber(name) ?? 0;
    if (cap === 0) continue;
    throw new TypeError(`Cannot load the model: ${name} must be absent, current value is ${cap}`);
  }
}

/** One window for all layers, or none; a model that mixes both is refused. */
function slidingWindow(
  fields: Fields,
  architecture: Architecture,
  maxPositions: number,
): number | undefined {
  if (architecture === "llama") return undefined;
  const window = fields.has("sliding_window") ? fields.optionalCount("sliding_window") : 4096;
  if (window === undefined || window >= maxPositions) return undefined;
  if (architecture === "mistral") return window;
  if (!(fields.optionalFlag("use_sliding_window") ?? false)) return undefined;
  const sliding = slidingLayers(fields);
  const layers = fields.count("num_hidden_layers");
  if (sliding === 0) return undefined;
  if (sliding === layers) return window;
  throw new TypeError(
    `Cannot load the model: ${sliding} of ${layers} layers attend to a sliding window, ` +
      `all or none are supported`,
  );
}

function slidingLayers(fields: Fields): number {
  const types = fields.optionalTexts("layer_types");
  if (types !== undefined) return types.filter((type) => type === "sliding_attention").length;
  const layers = fields.count("num_hidden_layers");
  return Math.max(0, layers - (fields.optionalNumber("max_window_layers") ?? 28));
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
