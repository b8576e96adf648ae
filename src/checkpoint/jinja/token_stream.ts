/** The tokens of @huggingface/jinja's lexer, one after the other. */

import { tokenize } from "@huggingface/jinja";

export type Token = ReturnType<typeof tokenize>[number];
export type TokenType = Token["type"];

/** A position among tokens. */
export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;

  /** Blocks are trimmed as transformers has it. @throws {SyntaxError} where a token is none */
  constructor(source: string) {
    this.#tokens = tokenize(source, { trim_blocks: true, lstrip_blocks: true });
  }

  get done(): boolean {
    return this.#at >= this.#tokens.length;
  }

  /** Whether the next token is of a type, and of a text where one is given. */
  is(type: TokenType, text?: string): boolean {
    const token = this.#tokens[this.#at];
    return token?.type === type && (text === undefined || token.value === text);
  }

  isWord(...words: readonly string[]): boolean {
    return words.some((word) => this.is("Identifier", word));
  }

  /** Whether a statement of one of these names is next. */
  isStatement(...names: readonly string[]): boolean {
    const name = this.#tokens[this.#at + 1];
    return this.is("OpenStatement") && name?.type === "Identifier" && names.includes(name.value);
  }

  /** @throws {SyntaxError} at the end */
  next(): Token {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new SyntaxError("unexpected end of template");
    return token;
  }

  /** The text of the next token where it is of the type; it is then taken. */
  take(type: TokenType, text?: string): string | undefined {
    return this.is(type, text) ? this.next().value : undefined;
  }

  /** The name that is next, where it is like this; it is then taken. */
  takeLike(pattern: RegExp): string | undefined {
    const token = this.#tokens[this.#at];
    return token?.type === "Identifier" && pattern.test(token.value)
      ? this.next().value
      : undefined;
  }

  takeWord(word: string): boolean {
    return this.take("Identifier", word) !== undefined;
  }

  /** @throws {SyntaxError} where another token is next */
  expect(type: TokenType, text?: string): string {
    const found = this.take(type, text);
    if (found !== undefined) return found;
    const token = this.done ? "end of template" : `'${this.next().value}'`;
    throw new SyntaxError(`unexpected ${token}, expected ${text ?? type}`);
  }
}
