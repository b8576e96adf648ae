/**
 * What the rest of lembas knows of a checkpoint, whatever file it came from: a canonical config,
 * weights under Hugging Face names and layouts, a tokenizer, a chat template and a digest. It knows
 * no file format and no graph.
 */

import type { StoredBlocks } from "../util/blocks.ts";

/** Rotary position embedding, by the names of Hugging Face's `rope_scaling` (transformers). */
export type RopeScaling =
  | { readonly type: "none" }
  | { readonly type: "linear"; readonly factor: number }
  | {
    readonly type: "llama3";
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalMaxPositions: number;
  }
  | {
    readonly type: "yarn";
    readonly factor: number;
    readonly originalMaxPositions: number;
    readonly betaFast: number;
    readonly betaSlow: number;
    /** Multiplies cos and sin; transformers derives it from `factor` where the config is silent. */
    readonly attentionFactor: number;
    /** Whether the correction range is rounded to whole dimensions (transformers' `truncate`). */
    readonly truncate: boolean;
  }
  | {
    /** LongRoPE (arXiv 2402.13753): divisors by plane, for rows that stay within a length or not. */
    readonly type: "longrope";
    readonly short: readonly number[];
    readonly long: readonly number[];
    readonly originalMaxPositions: number;
    /** Multiplies cos and sin. */
    readonly attentionFactor: number;
  }
  | {
    readonly type: "factors";
    /** One divisor per plane of rotation, headDim / 2 in all (a GGUF's `rope_freqs.weight`). */
    readonly factors: readonly number[];
  };

/** How a layer tells positions: a rotation of queries and keys (RoFormer, arXiv 2104.09864). */
export interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** How many of a head's dimensions turn, from the first on, an even number; 0 = none does. */
  readonly turned: number;
  /** Whether dimension 2i turns with 2i + 1, rather than i with i + turned/2. */
  readonly interleaved: boolean;
}

/** In what layers of one model may differ. */
export interface LayerForm {
  /** Which of the model's ropes. */
  readonly rope: number;
  /** Tokens a position may look back on, itself included; undefined for full attention. */
  readonly window: number | undefined;
}

/** Where a block may normalise: what attention and the MLP read, and what they put out. */
export type NormPlace = "beforeAttention" | "afterAttention" | "beforeMlp" | "afterMlp";

/** What a decoder's blocks do differently from one architecture to the next. */
export interface DecoderForm {
  /** What gates go through. */
  readonly activation: "silu" | "gelu_tanh";
  /** The norms that a block has, each with its name among the layer's weights. */
  readonly norms: Readonly<Partial<Record<NormPlace, string>>>;
  /** What is added to every norm's weights as they are stored. */
  readonly normOffset: number;
  /** RMSNorm of q and k before the rotation: over each head (Qwen3), over all of them (OLMo 2). */
  readonly qkNorm: "none" | "heads" | "whole";
  /** Factor of embeddings, of what a block adds, and of logits. */
  readonly embeddingScale: number;
  readonly residualScale: number;
  readonly logitScale: number;
  /** Attention's scores s and the logits become cap · tanh(s / cap); undefined = they stay. */
  readonly scoreCap: number | undefined;
  readonly logitCap: number | undefined;
}

/** A decoder of a transformer, as `src/models/decoder.ts` builds it. */
export interface DecoderConfig extends DecoderForm {
  /** As `architectures/table.ts` names them. */
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly ropes: readonly Rope[];
  /** Layer i has layers[i % layers.length]. */
  readonly layers: readonly LayerForm[];
  /** Scores are q·k times this. */
  readonly attentionScale: number;
  readonly tieEmbeddings: boolean;
  /** q, k and v projections have a bias (Qwen2). */
  readonly qkvBias: boolean;
  /** The o projection has a bias (Llama's `attention_bias: true`, together with qkvBias). */
  readonly outputBias: boolean;
  readonly bosTokenId: number | undefined;
  /** All that end a turn or a text, the file's own first. */
  readonly eosTokenIds: readonly number[];
}

/** How a tensor is stored. */
export type WeightType = GgmlType | "AWQ" | "GPTQ" | "F8_E4M3";

/** A quantised GGUF block format, or a plain one. */
export type GgmlType =
  | "F32"
  | "F16"
  | "BF16"
  | "Q8_0"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K";

export interface WeightInfo {
  /** Row-major, Hugging Face's order: a linear's weight is [out, in]. */
  readonly shape: readonly number[];
  readonly type: WeightType;
}

/**
 * Weights by Hugging Face name (`model.layers.0.self_attn.q_proj.weight`, `model.embed_tokens.weight`,
 * `model.norm.weight`, `lm_head.weight` where untied, …) in Hugging Face's layout: GGUF's permuted
 * q and k rows (Llama) are put back.
 */
export interface WeightSource {
  names(): readonly string[];
  has(name: string): boolean;
  /** @throws {RangeError} for an unknown name. */
  info(name: string): WeightInfo;
  /**
   * The tensor as float32, newly allocated: the caller owns it.
   * @throws {RangeError} for rows that the tensor does not have
   */
  read(name: string, options?: ReadOptions): Float32Array;
  /** The stored bytes of the tensor (quantised blocks, rows already in Hugging Face's order). */
  readRaw(name: string, rows?: Rows): Uint8Array;
  /** The integers of a tensor that is stored in blocks, as they are; undefined for any other. */
  blocks(name: string): StoredBlocks | undefined;
}

/** Rows of a tensor's first axis. */
export interface Rows {
  readonly first: number;
  readonly count: number;
}

export interface ReadOptions {
  /** Default: all. */
  readonly rows?: Rows;
  /** Written and returned instead of new memory, of just the length of what is read. */
  readonly into?: Float32Array;
}

/** Text to ids and back. Incremental decoding is the caller's (`src/engine`). */
export interface Tokenizer {
  readonly vocabSize: number;
  /** Tokens that a text has at least, known without encoding it; 0 where nothing can be said. */
  leastTokens(text: string): number;
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): number[];
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): string;
  /** The bytes a token stands for; empty for a special token. Grammars and logprobs need bytes. */
  tokenBytes(id: number): Uint8Array;
  /** The token as the vocabulary spells it. */
  tokenText(id: number): string;
  tokenId(text: string): number | undefined;
  isSpecial(id: number): boolean;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
  readonly [extra: string]: unknown;
}

export interface ChatTemplate {
  /** The template's source (Jinja). */
  readonly source: string;
  /** That of conversations with tools, where it is another. */
  readonly toolSource?: string;
  /** Why it cannot be rendered at all, in one sentence; undefined where it can. */
  readonly fault?: string;
  /** @throws {TypeError} with the template's own message where it refuses the conversation. */
  render(
    messages: readonly ChatMessage[],
    options?: {
      readonly addGenerationPrompt?: boolean;
      readonly tools?: readonly unknown[];
      readonly [extra: string]: unknown;
    },
  ): string;
}

/** What somebody chose about a checkpoint's chat template. */
export interface TemplateChoice {
  /** The source of one (Jinja) that is used instead of the checkpoint's own. */
  readonly chatTemplate?: string | undefined;
  /** Its variables where a conversation says nothing of them, e.g. `enable_thinking`. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>> | undefined;
}

/** What holds where a request says nothing; what is absent here, too, is neutral. */
export interface SamplingDefaults {
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  /** The most tokens of any output, also where a request asks for more (`max_new_tokens`). */
  readonly maxTokens?: number;
}

export interface Checkpoint extends Disposable {
  /** Where it lies: what `openCheckpoint` takes. */
  readonly path: string;
  /** A short model id for people and `/v1/models`, e.g. "SmolLM2-135M-Instruct". */
  readonly id: string;
  readonly config: DecoderConfig;
  readonly weights: WeightSource;
  readonly tokenizer: Tokenizer;
  /** Undefined where the checkpoint has none: chat is then refused, completion works. */
  readonly chatTemplate: ChatTemplate | undefined;
  /** How it was opened, for another thread to do the same. */
  readonly templateChoice?: TemplateChoice | undefined;
  /** As its files have them; `sampling_defaults.ts` says what holds. */
  readonly sampling: SamplingDefaults;
  /** For people who load it: what was missing or contradictory, and what is done about it. */
  readonly warnings: readonly string[];
  /** SHA-256 (hex) over the canonical config and the source tensors' bytes; cached beside the file. */
  digest(): Promise<string>;
  close(): void;
}
