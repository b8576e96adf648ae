// deno-lint-ignore-file camelcase -- the field names are tokenizer.json's
/**
 * The tokenizer inside a GGUF file as the `tokenizer.json` it was made from: byte-level BPE
 * ("gpt2") by its pre-tokenizer's name, and SentencePiece ("llama") with merges derived from its
 * scores. It tokenises nothing.
 */

import { END_OF_TEXT, END_OF_TURN } from "../text/end_tokens.ts";
import type { GgufHeader, GgufValue } from "./gguf.ts";
import {
  type AddedTokenJson,
  PRE_TOKENIZATIONS,
  splitStep,
  type Step,
  type TokenizerJson,
} from "../text/tokenizer_json.ts";

/** GGUF's token types. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const TOKEN_TYPE = "tokenizer.ggml.token_type";
const PRE = "tokenizer.ggml.pre";

/** Control tokens that only their names give away, beside those that end a turn or a text. */
const CONTROL_TEXTS: ReadonlySet<string> = new Set([
  "<s>",
  "<unk>",
  "<pad>",
  "<bos>",
  "<mask>",
  "<start_of_turn>",
  "[INST]",
  "[/INST]",
  "[BOS]",
  "[PAD]",
  "[UNK]",
]);

/** What both kinds of vocabulary have. */
interface Vocabulary {
  readonly tokens: readonly string[];
  readonly added: readonly AddedTokenJson[];
  readonly ids: Readonly<Record<string, number>>;
}

/**
 * The `tokenizer.json` equal to the metadata's tokenizer.
 *
 * @throws {TypeError} for a kind of tokenizer that is not supported, by its name
 */
export function ggufTokenizerJson({ metadata }: Pick<GgufHeader, "metadata">): TokenizerJson {
  const model = text(metadata, "tokenizer.ggml.model") ?? "none";
  const vocabulary = vocabularyOf(metadata);
  if (model === "gpt2") return byteLevel(metadata, vocabulary);
  if (model === "llama") return sentencePiece(metadata, vocabulary);
  throw new TypeError(
    `Cannot load the tokenizer: the GGUF has model '${model}', supported are gpt2, llama`,
  );
}

/** For people: what the file leaves out of its tokenizer, and what is done without it. */
export function ggufTokenizerWarnings(
  { metadata }: Pick<GgufHeader, "metadata">,
): readonly string[] {
  const warnings: string[] = [];
  const tokens = texts(metadata, "tokenizer.ggml.tokens");
  const types = numbers(metadata, TOKEN_TYPE);
  if (types.length === 0) {
    const typeOf = typesOf(metadata);
    const control = tokens.filter((token, id) => typeOf(token, id) === CONTROL);
    const shown = [...control.slice(0, 8), ...(control.length > 8 ? ["…"] : [])].join(" ");
    warnings.push(
      `the GGUF has no ${TOKEN_TYPE}: by their texts ${control.length} tokens are taken as ` +
        `control tokens${shown && ` (${shown})`}`,
    );
  }
  for (const token of types.length === 0 ? [] : END_OF_TURN) {
    const id = tokens.indexOf(token);
    if (id >= 0 && types[id] !== CONTROL) {
      warnings.push(`'${token}' is no control token by ${TOKEN_TYPE}: it is taken as one`);
    }
  }
  if (text(metadata, "tokenizer.ggml.model") === "gpt2" && text(metadata, PRE) === undefined) {
    warnings.push(
      `the GGUF has no ${PRE}: text is split as GPT-2 splits it; ` +
        "a model that was trained with another split answers worse",
    );
  }
  return warnings;
}

/** The text of the token that `tokenizer.ggml.<name>_token_id` names. */
export function ggufSpecialToken(
  { metadata }: Pick<GgufHeader, "metadata">,
  name: "bos" | "eos" | "unknown" | "padding",
): string | undefined {
  const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const token = Array.isArray(tokens) && typeof id === "number" ? tokens[id] : undefined;
  return typeof token === "string" ? token : undefined;
}

function byteLevel(metadata: GgufHeader["metadata"], vocabulary: Vocabulary): TokenizerJson {
  const pre = text(metadata, PRE) ?? "default";
  const family = PRE_TOKENIZATIONS.get(pre);
  if (family === undefined) {
    throw new TypeError(
      `Cannot load the tokenizer: the GGUF's pre-tokenizer is '${pre}', ` +
        `supported are ${[...PRE_TOKENIZATIONS.keys()].join(", ")}`,
    );
  }
  const bytes: Step = {
    type: "ByteLevel",
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: false,
  };
  return {
    added_tokens: vocabulary.added,
    normalizer: family.normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...family.splits.map(splitStep), bytes] },
    post_processor: frame(metadata, vocabulary, family.addsBos),
    decoder: bytes,
    model: {
      type: "BPE",
      vocab: vocabulary.ids,
      // each is two tokens with one space between; neither contains one
      merges: texts(metadata, "tokenizer.ggml.merges"),
      ignore_merges: family.ignoreMerges,
      unk_token: null,
    },
  };
}

function sentencePiece(metadata: GgufHeader["metadata"], vocabulary: Vocabulary): TokenizerJson {
  const scores = numbers(metadata, "tokenizer.ggml.scores");
  const prefix = flag(metadata, "tokenizer.ggml.add_space_prefix") ?? true;
  const spaces: Step = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  const normalizers = prefix ? [{ type: "Prepend", prepend: "\u2581" }, spaces] : [spaces];
  const strip: Step = { type: "Strip", content: " ", start: 1, stop: 0 };
  return {
    added_tokens: vocabulary.added,
    normalizer: { type: "Sequence", normalizers },
    pre_tokenizer: null,
    post_processor: frame(metadata, vocabulary, true),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [strip] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab: vocabulary.ids,
      merges: mergesByScore(vocabulary, scores),
      byte_fallback: true,
      fuse_unk: true,
      unk_token: ggufSpecialToken({ metadata }, "unknown") ?? "<unk>",
    },
  };
}

/**
 * Each way to put a token together from two others, best token first: SentencePiece joins the
 * neighbours whose union has the highest score.
 */
function mergesByScore(
  vocabulary: Vocabulary,
  scores: readonly number[],
): readonly (readonly [string, string])[] {
  const rank = new Map(vocabulary.tokens.map((token, id) => [token, id]));
  const order = vocabulary.tokens.map((_, id) => id)
    .sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));
  return order.flatMap((id) => {
    const characters = [...vocabulary.tokens[id] ?? ""];
    const pairs: (readonly [string, string])[] = [];
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join("");
      const right = characters.slice(cut).join("");
      if (rank.has(left) && rank.has(right)) pairs.push([left, right]);
    }
    return pairs.sort(([a, b], [c, d]) =>
      (rank.get(a) ?? 0) - (rank.get(c) ?? 0) || (rank.get(b) ?? 0) - (rank.get(d) ?? 0)
    );
  });
}

/** BOS before and EOS after a text, where the file (or else its family) wants them. */
function frame(
  metadata: GgufHeader["metadata"],
  { tokens }: Vocabulary,
  addsBos: boolean,
): Step | null {
  const wanted = [
    { key: "bos", is: flag(metadata, "tokenizer.ggml.add_bos_token") ?? addsBos },
    { key: "eos", is: flag(metadata, "tokenizer.ggml.add_eos_token") ?? false },
  ] as const;
  const [bos, eos] = wanted.map(({ key, is }) => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    const token = typeof id === "number" ? tokens[id] : undefined;
    return is && token !== undefined ? [{ id, token }] : [];
  });
  const special = [...bos ?? [], ...eos ?? []];
  if (special.length === 0) return null;
  const item = ({ token }: { token: string }): unknown => ({
    SpecialToken: { id: token, type_id: 0 },
  });
  const sequence = { Sequence: { id: "A", type_id: 0 } };
  const single = [...(bos ?? []).map(item), sequence, ...(eos ?? []).map(item)];
  const named = special.map(({ id, token }) => [token, { id: token, ids: [id], tokens: [token] }]);
  return {
    type: "TemplateProcessing",
    single,
    pair: single,
    special_tokens: Object.fromEntries(named),
  };
}

function vocabularyOf(metadata: GgufHeader["metadata"]): Vocabulary {
  const tokens = texts(metadata, "tokenizer.ggml.tokens");
  const typeOf = typesOf(metadata);
  const added = tokens.flatMap((content, id): readonly AddedTokenJson[] => {
    const type = typeOf(content, id);
    if (type !== CONTROL && type !== USER_DEFINED && type !== UNKNOWN) return [];
    const special = type !== USER_DEFINED;
    return [{
      id,
      content,
      special,
      normalized: false,
      lstrip: false,
      rstrip: false,
      single_word: false,
    }];
  });
  return { tokens, added, ids: Object.fromEntries(tokens.map((token, id) => [token, id])) };
}

/**
 * A token's type: the file's, but for an end of turn, which is a control token whatever the file
 * says (as in llama.cpp). Where the file has no types, the texts and the metadata's names tell.
 */
function typesOf(
  metadata: GgufHeader["metadata"],
): (content: string, id: number) => number | undefined {
  const types = numbers(metadata, TOKEN_TYPE);
  if (types.length > 0) return (content, id) => END_OF_TURN.has(content) ? CONTROL : types[id];
  const named = new Set(
    [...metadata].filter(([key]) => /^tokenizer\.ggml\.\w+_token_id$/.test(key))
      .map(([, id]) => id),
  );
  const isPieces = text(metadata, "tokenizer.ggml.model") === "llama";
  return (content, id) => {
    const byText = looksLikeControl(content) || (isPieces && isControlPiece(content));
    return named.has(id) || byText ? CONTROL : undefined;
  };
}

/** By the shape that Llama 3, ChatML, DeepSeek and their kin give to control tokens, or by name. */
function looksLikeControl(content: string): boolean {
  return /^<[|\uff5c][^\s<>]+[|\uff5c]>$/.test(content) || END_OF_TURN.has(content);
}

/** By the names of SentencePiece vocabularies; elsewhere `<s>` is HTML, and a word like others. */
function isControlPiece(content: string): boolean {
  return CONTROL_TEXTS.has(content) || END_OF_TEXT.has(content);
}

function text(metadata: ReadonlyMap<string, GgufValue>, key: string): string | undefined {
  const value = metadata.get(key);
  return typeof value === "string" ? value : undefined;
}

function flag(metadata: ReadonlyMap<string, GgufValue>, key: string): boolean | undefined {
  const value = metadata.get(key);
  return typeof value === "boolean" ? value : undefined;
}

function texts(metadata: ReadonlyMap<string, GgufValue>, key: string): readonly string[] {
  const value = metadata.get(key);
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  throw new TypeError(`Cannot load the tokenizer: ${key} is no list of strings`);
}

function numbers(metadata: ReadonlyMap<string, GgufValue>, key: string): readonly number[] {
  const value = metadata.get(key) ?? [];
  if (Array.isArray(value) && value.every((item) => typeof item === "number")) return value;
  throw new TypeError(`Cannot load the tokenizer: ${key} is no list of numbers`);
}
