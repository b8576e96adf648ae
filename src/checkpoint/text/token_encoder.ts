// deno-lint-ignore-file camelcase -- the field names are tokenizer.json's
/**
 * From text to token ids: added tokens are cut out here, as the Rust library does it, and what is
 * between them goes through the normalizer, pre-tokenizer and model of @huggingface/tokenizers.
 */

import { Tokenizer as Parts } from "@huggingface/tokenizers";
import { AddedTokens } from "./added_tokens.ts";
import { bertNormalizer } from "./bert_normalizer.ts";
import { portableNormalizer, portablePreTokenizer, type TokenizerJson } from "./tokenizer_json.ts";

/** Encodes by a `tokenizer.json`. */
export class TokenEncoder {
  readonly #parts: Parts;
  readonly #normalise: (text: string) => string;
  /** Of the text as it comes, and of the normalised text between the former. */
  readonly #plain: AddedTokens;
  readonly #normalised: AddedTokens;

  /** @throws {TypeError} for a part of a kind that is not supported */
  constructor(json: TokenizerJson) {
    this.#parts = openParts(json);
    const normalise = bertNormalizer(json.normalizer) ?? this.#parts.normalizer ??
      ((text: string) => text);
    this.#normalise = normalise;
    const [plain, normalised] = [false, true].map((wanted) =>
      json.added_tokens.filter(({ normalized, special }) => (normalized ?? !special) === wanted)
    );
    this.#plain = new AddedTokens((plain ?? []).map((token) => [token.content, token]));
    this.#normalised = new AddedTokens(
      (normalised ?? []).map((token) => [normalise(token.content), token]),
    );
  }

  encode(text: string, addSpecialTokens: boolean): number[] {
    const { model, post_processor: frame } = this.#parts;
    const tokens = this.#tokens(text);
    const framed = frame === null ? tokens : frame(tokens, null, addSpecialTokens).tokens;
    return framed.map((token) => this.tokenId(token) ?? model?.unk_token_id ?? 0);
  }

  tokenId(text: string): number | undefined {
    return this.#parts.token_to_id(text);
  }

  #tokens(text: string): string[] {
    const tokens: string[] = [];
    for (const outer of this.#plain.split(text)) {
      if (outer.token !== undefined) {
        tokens.push(outer.token.content);
        continue;
      }
      const normal = this.#normalise(outer.text);
      for (const inner of this.#normalised.split(normal)) {
        if (inner.token !== undefined) tokens.push(inner.token.content);
        else for (const token of this.#model(inner.text, outer.at + inner.at)) tokens.push(token);
      }
    }
    return tokens;
  }

  /** @param at where the text starts: some pre-tokenizers put a space before the first alone */
  #model(text: string, at: number): readonly string[] {
    const { model, pre_tokenizer: split } = this.#parts;
    const pieces = split === null ? [text] : split(text, { section_index: at });
    return model?.(pieces) ?? [];
  }
}

function openParts(json: TokenizerJson): Parts {
  const portable = {
    ...json,
    normalizer: portableNormalizer(json.normalizer),
    pre_tokenizer: portablePreTokenizer(json.pre_tokenizer),
  };
  try {
    return new Parts(portable, { clean_up_tokenization_spaces: false });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`Cannot load the tokenizer: ${reason}`, { cause });
  }
}
