/**
 * What an architecture's own file says: its defaults, what its blocks do differently, and how the
 * fields of `config.json` and the metadata of a GGUF become that.
 */
import type { DecoderConfig, DecoderForm } from "../checkpoint.ts";
import type { Fields } from "../fields.ts";
import type { Fused } from "../formats/fused_weights.ts";

/** What transformers' class says where config.json is silent. */
export interface ClassDefaults {
  /** Undefined = as many as heads. */
  readonly kvHeads: number | undefined;
  /** Undefined = the hidden size by the number of heads. */
  readonly headDim: number | undefined;
  readonly maxPositions: number;
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  /** Whether the head is the embedding. Default: it is not. */
  readonly tied?: boolean;
  /** RMSNorm's; default: 1e-6. */
  readonly eps?: number;
  /** The rotation's base; default: 10,000. */
  readonly theta?: number;
}

export interface Architecture {
  readonly name: string;
  readonly defaults: ClassDefaults;
  /** What its blocks do, whatever a file says. */
  readonly form?: Partial<DecoderForm>;
  /** What config.json says beyond what all architectures share, which is in `shared`. */
  readonly fromConfig?: (fields: Fields, shared: DecoderConfig) => Partial<DecoderConfig>;
  /** The same of a GGUF's metadata, whose keys are those behind the architecture's name. */
  readonly fromGguf?: (fields: Fields, shared: DecoderConfig) => Partial<DecoderConfig>;
  /** Whether scores and logits may be capped. Default: a file that says so is refused. */
  readonly softCaps?: true;
  /** Linears that files have as one tensor. */
  readonly fused?: Fused;
  /** How llama.cpp's conversion lays the rows of q and k: default as Hugging Face has them. */
  readonly ggufRows?: "interleaved";
}

/** Llama's block (arXiv 2302.13971), from which the others differ. */
export const PLAIN_FORM: DecoderForm = {
  activation: "silu",
  norms: { beforeAttention: "input_layernorm", beforeMlp: "post_attention_layernorm" },
  normOffset: 0,
  qkNorm: "none",
  embeddingScale: 1,
  residualScale: 1,
  logitScale: 1,
  scoreCap: undefined,
  logitCap: undefined,
};

/**
 * The caps of scores and logits, whose names GGUF has from config.json.
 * @throws {TypeError} naming a cap that the architecture has not
 */
export function softCapsOf(
  fields: Fields,
  { softCaps }: Architecture,
): Pick<DecoderConfig, "scoreCap" | "logitCap"> {
  const [scoreCap, logitCap] = ["attn_logit_softcapping", "final_logit_softcapping"].map((name) => {
    const cap = fields.optionalNumber(name) || undefined;
    if (cap === undefined || softCaps) return cap;
    throw new TypeError(`Cannot load the model: ${name} must be absent, current value is ${cap}`);
  });
  return { scoreCap, logitCap };
}

/** The scale of scores where nothing else is said. */
export function plainScale(headDim: number): number {
  return 1 / Math.sqrt(headDim);
}

/** Biases where `attention_bias` says so. */
export function attentionBias(fields: Fields): Pick<DecoderConfig, "qkvBias" | "outputBias"> {
  const bias = fields.optionalFlag("attention_bias") ?? false;
  return { qkvBias: bias, outputBias: bias };
}
