/**
 * Encodes the many beginnings of one long conversation without encoding each from its start:
 * special tokens cut a text into sections that tokenizers encode apart from each other.
 */
import type { Tokenizer } from "../../checkpoint/checkpoint.ts";

/** Text to ids, without the special tokens that a tokenizer adds by itself. */
export type Encode = (text: string) => readonly number[];

/** Encodes by sections where that gives the same. */
export class SectionEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #special: RegExp | undefined;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#special = specialPattern(tokenizer);
  }

  /** The plain encoding. */
  readonly plain: Encode = (text) => this.#tokenizer.encode(text, { addSpecialTokens: false });

  /**
   * An encoding for texts that share sections with `whole`, which remembers theirs; the plain one
   * where `whole` by sections comes out otherwise than at once.
   */
  sharing(whole: string): Encode {
    const special = this.#special;
    if (special === undefined) return this.plain;
    const known = new Map<string, readonly number[]>();
    const encode: Encode = (text) =>
      text.split(special).flatMap((section) => {
        const ids = known.get(section) ?? this.plain(section);
        known.set(section, ids);
        return ids;
      });
    const [once, bySections] = [this.plain(whole), encode(whole)];
    const same = once.length === bySections.length && once.every((id, i) => id === bySections[i]);
    return same ? encode : this.plain;
  }
}

/** Splits at special tokens and keeps them; the longest first, as tokenizers match them. */
function specialPattern(tokenizer: Tokenizer): RegExp | undefined {
  const texts = Array.from({ length: tokenizer.vocabSize }, (_, id) => id)
    .filter((id) => tokenizer.isSpecial(id))
    .map((id) => tokenizer.tokenText(id))
    .filter((text) => text !== "")
    .sort((a, b) => b.length - a.length);
  if (texts.length === 0) return undefined;
  const escaped = texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  return new RegExp(`(${escaped.join("|")})`);
}
