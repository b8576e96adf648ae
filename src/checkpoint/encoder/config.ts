/**
 * Hugging Face's `config.json` of an encoder (BERT, RoBERTa, XLM-R, MPNet) as an EncoderConfig, with
 * the defaults of transformers' configuration classes. It refuses what the encoder cannot compute, by
 * the name of the field.
 */
import { Fields } from "../fields.ts";

/** The encoders that there are, by Hugging Face's `model_type`. */
const ENCODERS = ["bert", "roberta", "xlm-roberta", "camembert", "mpnet"] as const;
export type EncoderArchitecture = typeof ENCODERS[number];

export interface EncoderConfig {
  readonly architecture: EncoderArchitecture;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  /** As many as heads: widths are told as a decoder's are. */
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Rows of the table of positions. */
  readonly positionRows: number;
  /** The row of a text's first token: RoBERTa counts from behind its padding token's. */
  readonly firstPosition: number;
  /** Tokens of the longest text. */
  readonly maxPositions: number;
  /** Rows of the table of token types; 0 = there is none. */
  readonly tokenTypes: number;
  readonly layerNormEps: number;
  readonly gelu: "exact" | "tanh";
  /** Distances that scores are biased by, in so many buckets (MPNet); undefined = they are not. */
  readonly relativeBuckets: number | undefined;
  /** Of a text that is padded: RoBERTa's positions pass it over. */
  readonly padTokenId: number;
  /** What a classifier on the first token puts out; undefined = there is none. */
  readonly labels: number | undefined;
  /** What becomes of a single label's logit. */
  readonly scoring: "sigmoid" | "identity";
}

const GELUS: ReadonlyMap<string, EncoderConfig["gelu"]> = new Map([
  ["gelu", "exact"],
  ["gelu_new", "tanh"],
  ["gelu_pytorch_tanh", "tanh"],
]);

/** Whether a parsed `config.json` is an encoder's. */
export function isEncoderConfig(config: unknown): boolean {
  const type = new Fields("config.json", config).optionalText("model_type");
  return ENCODERS.some((name) => name === type);
}

/**
 * The encoder that a `config.json` describes.
 * @throws {TypeError} for a field of the wrong type, or a variant that is not supported
 */
export function encoderConfig(config: unknown): EncoderConfig {
  const fields = new Fields("config.json", config);
  const architecture = knownEncoder(fields.optionalText("model_type") ?? "unnamed");
  refuseVariants(fields);
  const [hiddenSize, numHeads] = [fields.count("hidden_size"), fields.count("num_attention_heads")];
  const headDim = hiddenSize / numHeads;
  if (!Number.isInteger(headDim)) {
    throw new TypeError(
      `Cannot load the model: hidden_size ${hiddenSize} is no multiple of ${numHeads} heads`,
    );
  }
  const isBert = architecture === "bert";
  const [padTokenId = isBert ? 0 : 1] = fields.optionalIds("pad_token_id");
  // MPNet's classes count from behind 1, whatever its padding token is
  const firstPosition = isBert ? 0 : (architecture === "mpnet" ? 1 : padTokenId) + 1;
  const positionRows = fields.optionalCount("max_position_embeddings") ?? 512;
  return {
    architecture,
    vocabSize: fields.count("vocab_size"),
    hiddenSize,
    intermediateSize: fields.count("intermediate_size"),
    numLayers: fields.count("num_hidden_layers"),
    numHeads,
    numKvHeads: numHeads,
    headDim,
    positionRows,
    firstPosition,
    maxPositions: positionRows - firstPosition,
    tokenTypes: architecture === "mpnet" ? 0 : fields.optionalCount("type_vocab_size") ?? 2,
    layerNormEps: fields.optionalNumber("layer_norm_eps") ?? 1e-12,
    gelu: geluOf(fields),
    relativeBuckets: architecture === "mpnet"
      ? fields.optionalCount("relative_attention_num_buckets") ?? 32
      : undefined,
    padTokenId,
    labels: labelsOf(fields),
    scoring: scoringOf(fields),
  };
}

function knownEncoder(name: string): EncoderArchitecture {
  const known = ENCODERS.find((architecture) => architecture === name);
  if (known !== undefined) return known;
  throw new TypeError(`Cannot load encoder '${name}': supported are ${ENCODERS.join(", ")}`);
}

function refuseVariants(fields: Fields): void {
  const positions = fields.optionalText("position_embedding_type") ?? "absolute";
  if (positions !== "absolute") {
    throw new TypeError(
      `Cannot load the model: position_embedding_type must be absolute, current value is ${positions}`,
    );
  }
  for (const name of ["is_decoder", "add_cross_attention"]) {
    if (!(fields.optionalFlag(name) ?? false)) continue;
    throw new TypeError(`Cannot load the model: ${name} must be false, current value is true`);
  }
}

function geluOf(fields: Fields): EncoderConfig["gelu"] {
  const name = fields.optionalText("hidden_act") ?? "gelu";
  const form = GELUS.get(name);
  if (form !== undefined) return form;
  throw new TypeError(
    `Cannot load the model: hidden_act must be one of ${[...GELUS.keys()].join(", ")}, ` +
      `current value is ${name}`,
  );
}

/** Of a `…ForSequenceClassification`: transformers writes labels down as `id2label`, two where silent. */
function labelsOf(fields: Fields): number | undefined {
  const [name = ""] = fields.optionalTexts("architectures") ?? [];
  if (!name.endsWith("ForSequenceClassification")) return undefined;
  return fields.optionalObject("id2label")?.names().length ?? fields.optionalCount("num_labels") ??
    2;
}

/** sentence-transformers' own field, under its names of now and before; default: a sigmoid. */
function scoringOf(fields: Fields): EncoderConfig["scoring"] {
  const name = fields.optionalObject("sentence_transformers")?.optionalText("activation_fn") ??
    fields.optionalText("sbert_ce_default_activation_function") ?? "Sigmoid";
  if (name.endsWith("Sigmoid")) return "sigmoid";
  if (name.endsWith("Identity")) return "identity";
  throw new TypeError(
    `Cannot load the model: its activation_fn must be Sigmoid or Identity, current value is ${name}`,
  );
}
