/**
 * A Tokenizer over a `tokenizer.json`: decoding and token bytes by its own tables, as the Rust
 * library decodes byte-level and SentencePiece vocabularies. What encoding needs of a large
 * vocabulary takes half a second and is made when a text is first encoded.
 */

import { joinBytes } from "../../util/bytes.ts";
import type { Tokenizer } from "../checkpoint.ts";
import { Fields } from "../fields.ts";
import { byteLength, droppedCharacters, longestToken } from "./token_bound.ts";
import { TokenEncoder } from "./token_encoder.ts";
import {
  type AddedTokenJson,
  prependScheme,
  type Step,
  stepsOf,
  type TokenizerJson,
} from "./tokenizer_json.ts";

/** How token texts become bytes. */
type Spelling =
  | { readonly type: "bytes" }
  | { readonly type: "pieces"; readonly stripsLeadingSpace: boolean }
  /** BERT's: a token begins a word unless it has the prefix; `tidies` takes spaces before marks out. */
  | { readonly type: "words"; readonly prefix: string; readonly tidies: boolean };

/** SentencePiece's stand-in for a space. */
const PIECE_SPACE = "\u2581";

/** The characters that stand for bytes in GPT-2's vocabularies, with their bytes. */
const BYTE_OF: ReadonlyMap<string, number> = byteTable();

/** A tokenizer made from a parsed `tokenizer.json`. */
export class JsonTokenizer implements Tokenizer {
  readonly vocabSize: number;
  /** UTF-8 bytes that one token stands for at most. */
  readonly #longest: () => number;
  /** Characters of which one byte stands for nothing. */
  readonly #dropped: RegExp | undefined;
  readonly #encoder: () => TokenEncoder;
  readonly #ids: TokenIds;
  readonly #spelling: Spelling;
  readonly #texts: readonly (string | undefined)[];
  readonly #added: ReadonlyMap<number, AddedTokenJson>;
  readonly #bytes: (Uint8Array | undefined)[] = [];
  readonly #utf8 = new TextEncoder();

  /** @throws {TypeError} for a tokenizer of a kind that no supported model has */
  constructor(json: TokenizerJson) {
    this.#spelling = spellingOf(json.decoder);
    checkSteps(json);
    this.#encoder = once(() => new TokenEncoder(json));
    this.#ids = new TokenIds(json);
    this.#texts = textsById(json);
    this.#added = new Map(json.added_tokens.map((token) => [token.id, token]));
    this.vocabSize = this.#texts.length;
    this.#dropped = this.#droppedCharacters(json);
    this.#longest = once(() => longestToken(json, this.#lengths()));
  }

  encode(text: string, options: { readonly addSpecialTokens?: boolean } = {}): number[] {
    return this.#encoder().encode(text, options.addSpecialTokens ?? true);
  }

  leastTokens(text: string): number {
    const longest = this.#longest();
    if (this.#dropped === undefined || longest === Infinity) return 0;
    const dropped = text.match(this.#dropped)?.length ?? 0;
    return Math.ceil((byteLength(text) - dropped) / longest);
  }

  decode(
    ids: readonly number[],
    options: { readonly skipSpecialTokens?: boolean } = {},
  ): string {
    const skip = options.skipSpecialTokens ?? false;
    const kept = skip ? ids.filter((id) => !this.isSpecial(id)) : ids;
    if (this.#spelling.type === "bytes") return this.#join(kept);
    if (this.#spelling.type === "words") {
      return joinWords(kept.map((id) => this.tokenText(id)), this.#spelling);
    }
    const text = joinPieces(kept.map((id) => this.tokenText(id)));
    return this.#spelling.stripsLeadingSpace && text.startsWith(" ") ? text.slice(1) : text;
  }

  /** Empty for an id that the vocabulary lacks, too. */
  tokenBytes(id: number): Uint8Array {
    return this.isSpecial(id) ? new Uint8Array(0) : this.#bytesOf(id);
  }

  /** Empty for an id that the vocabulary lacks. */
  tokenText(id: number): string {
    return this.#texts[id] ?? "";
  }

  tokenId(text: string): number | undefined {
    return this.#ids.of(text);
  }

  isSpecial(id: number): boolean {
    return this.#added.get(id)?.special ?? false;
  }

  /** Undefined where unknown characters become a token, or are swallowed by their neighbours. */
  #droppedCharacters({ model }: TokenizerJson): RegExp | undefined {
    if (this.#spelling.type === "words") return undefined;
    if (this.#spelling.type === "pieces") {
      return model["byte_fallback"] === true ? droppedCharacters([]) : undefined;
    }
    const lacking = [...BYTE_OF].filter(([character]) => this.tokenId(character) === undefined);
    return droppedCharacters(lacking.map(([, byte]) => byte));
  }

  /** Bytes of each token's text, a stand-in for a space counted as it is written. */
  *#lengths(): Generator<number> {
    for (const id of this.#texts.keys()) {
      const text = this.tokenText(id);
      yield this.#spelling.type === "bytes" ? spelledLength(text) : byteLength(text);
    }
  }

  #join(ids: readonly number[]): string {
    return decodeUtf8(joinBytes(ids.map((id) => this.#bytesOf(id))));
  }

  #bytesOf(id: number): Uint8Array {
    const known = this.#bytes[id];
    if (known !== undefined) return known;
    const bytes = this.#spell(this.tokenText(id));
    if (id < this.vocabSize) this.#bytes[id] = bytes;
    return bytes;
  }

  #spell(text: string): Uint8Array {
    if (this.#spelling.type === "words") {
      const { prefix } = this.#spelling;
      const inside = text.startsWith(prefix);
      return this.#utf8.encode(inside ? text.slice(prefix.length) : ` ${text}`);
    }
    if (this.#spelling.type === "pieces") {
      const byte = byteOfPiece(text);
      if (byte !== undefined) return Uint8Array.of(byte);
      return this.#utf8.encode(text.replaceAll(PIECE_SPACE, " "));
    }
    const bytes: number[] = [];
    for (const character of text) {
      const byte = BYTE_OF.get(character);
      if (byte === undefined) return this.#utf8.encode(text);
      bytes.push(byte);
    }
    return Uint8Array.from(bytes);
  }
}

/** Ids of token texts: added tokens before the vocabulary's. */
class TokenIds {
  readonly #vocab: Readonly<Record<string, number>>;
  readonly #added: ReadonlyMap<string, number>;

  constructor(json: TokenizerJson) {
    this.#vocab = vocabularyOf(json);
    this.#added = new Map(json.added_tokens.map(({ content, id }) => [content, id]));
  }

  of(text: string): number | undefined {
    const own = Object.hasOwn(this.#vocab, text) ? this.#vocab[text] : undefined;
    return this.#added.get(text) ?? own;
  }
}

/**
 * Refuses steps of a kind that is not supported, which an encoder of no tokens does just as well.
 * @throws {TypeError}
 */
function checkSteps(json: TokenizerJson): void {
  const { model } = json;
  const none = model.type === "Unigram"
    ? { vocab: [["", 0]], unk_id: 0 }
    : { vocab: {}, merges: [] };
  new TokenEncoder({ ...json, added_tokens: [], model: { ...model, ...none } });
}

/** What `make` gives, made when it is first asked for. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** Bytes of a byte-level token: one a character, or UTF-8 where one of them stands for no byte. */
function spelledLength(text: string): number {
  let count = 0;
  for (const character of text) {
    if (!BYTE_OF.has(character)) return byteLength(text);
    count++;
  }
  return count;
}

const MODELS: readonly string[] = ["BPE", "WordPiece", "Unigram"];

/**
 * A parsed `tokenizer.json`, checked as far as it is used here.
 *
 * @throws {TypeError} naming the field that is wrong
 */
export function readTokenizerJson(value: unknown): TokenizerJson {
  const fields = new Fields("tokenizer.json", value);
  const json = value as Partial<TokenizerJson>;
  const type = fields.optionalObject("model")?.optionalText("type") ?? "BPE";
  if (json.model === undefined || !MODELS.includes(type)) {
    throw new TypeError(
      `Cannot load the tokenizer: its model is '${type}', supported are ${MODELS.join(", ")}`,
    );
  }
  if (!Array.isArray(json.added_tokens ?? [])) {
    throw new TypeError("Cannot read tokenizer.json: added_tokens is not a list");
  }
  return {
    added_tokens: json.added_tokens ?? [],
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer ?? null,
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
    model: { ...json.model, type },
  };
}

/** Ids by text; a Unigram model's is a list of texts with their scores. */
function vocabularyOf({ model }: TokenizerJson): Readonly<Record<string, number>> {
  const vocab = model["vocab"];
  if (model.type !== "Unigram") return vocab as Readonly<Record<string, number>>;
  const pieces = vocab as readonly (readonly [string, number])[];
  return Object.fromEntries(pieces.map(([text], id) => [text, id]));
}

function textsById(json: TokenizerJson): readonly (string | undefined)[] {
  const texts: (string | undefined)[] = [];
  const vocab = vocabularyOf(json);
  const put = (text: string, id: number): void => {
    if (!Number.isSafeInteger(id) || id < 0 || id > 1 << 24) {
      throw new TypeError(`Cannot load the tokenizer: '${text}' has the id ${id}`);
    }
    texts[id] = text;
  };
  for (const text of Object.keys(vocab)) put(text, vocab[text]);
  for (const { content, id } of json.added_tokens) put(content, id);
  return texts;
}

function spellingOf(decoder: Step | null): Spelling {
  const steps = stepsOf(decoder, "decoders");
  if (steps.some((step) => step.type === "ByteLevel")) return { type: "bytes" };
  const words = steps.find((step) => step.type === "WordPiece");
  if (words !== undefined) {
    return {
      type: "words",
      prefix: String(words["prefix"] ?? "##"),
      tidies: words["cleanup"] !== false,
    };
  }
  const space = steps.find((step) => step.type === "Metaspace" || step.type === "Replace");
  if (space === undefined) {
    const name = decoder?.type ?? "none";
    throw new TypeError(
      `Cannot load the tokenizer: its decoder is ${name}; supported are byte-level, ` +
        "SentencePiece and WordPiece",
    );
  }
  const stripsLeadingSpace = steps.some((step) => step.type === "Strip") ||
    (space.type === "Metaspace" && prependScheme(space) !== "never");
  return { type: "pieces", stripsLeadingSpace };
}

/** Spaces that the Rust library's `cleanup` takes out of each token with its space before it. */
const UNTIDY: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function joinWords(
  tokens: readonly string[],
  { prefix, tidies }: Extract<Spelling, { readonly type: "words" }>,
): string {
  return tokens.map((token, i) => {
    const inside = i > 0 && token.startsWith(prefix);
    const text = i === 0 ? token : inside ? token.slice(prefix.length) : ` ${token}`;
    if (!tidies) return text;
    return UNTIDY.reduce((tidied, [from, to]) => tidied.replaceAll(from, to), text);
  }).join("");
}

/** Runs of byte pieces become text together; a run that is no UTF-8 becomes a U+FFFD for each byte. */
function joinPieces(pieces: readonly string[]): string {
  let text = "";
  let run: number[] = [];
  const flush = (): void => {
    text += decodeRun(run);
    run = [];
  };
  for (const piece of pieces) {
    const byte = byteOfPiece(piece);
    if (byte === undefined) {
      flush();
      text += piece.replaceAll(PIECE_SPACE, " ");
    } else run.push(byte);
  }
  flush();
  return text;
}

function decodeRun(run: readonly number[]): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(run));
  } catch {
    return "\ufffd".repeat(run.length);
  }
}

function byteOfPiece(piece: string): number | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  return match === null ? undefined : parseInt(match[1] ?? "", 16);
}

function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Printable Latin-1 stands for itself, the other bytes for U+0100 and up, in order (GPT-2). */
function byteTable(): ReadonlyMap<string, number> {
  const table = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    table.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return table;
}
