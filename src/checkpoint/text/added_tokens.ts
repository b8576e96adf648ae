/**
 * Added tokens cut out of a text before it is tokenised, as the Rust library's AddedVocabulary cuts
 * them: leftmost first, of those the longest. A word is what Rust's `\w` calls one and white space
 * what Unicode does: JavaScript's `\s` has U+FEFF and lacks U+0085.
 */

import type { AddedTokenJson } from "./tokenizer_json.ts";

/** A stretch of a text: an added token, or what is between them. */
export interface Piece {
  readonly token: AddedTokenJson | undefined;
  readonly text: string;
  /** Where it starts in the text, in UTF-16 units. */
  readonly at: number;
}

/** Anchored at both ends: V8 misses letters beyond the basic plane in an unanchored `[…]$`. */
const WORD = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
/** All of Unicode's white space is in the basic plane: one UTF-16 unit each. */
const SPACE = /^\p{White_Space}$/u;

/** Finds a set of added tokens. */
export class AddedTokens {
  readonly #tokens: ReadonlyMap<string, AddedTokenJson>;
  /** Any of the contents, longer ones first; undefined where there are none. */
  readonly #pattern: RegExp | undefined;

  /** @param entries contents as they stand in the text, with their tokens */
  constructor(entries: Iterable<readonly [string, AddedTokenJson]>) {
    this.#tokens = new Map([...entries].filter(([content]) => content !== ""));
    const contents = [...this.#tokens.keys()].sort((a, b) => b.length - a.length);
    this.#pattern = contents.length === 0
      ? undefined
      : new RegExp(contents.map(RegExp.escape).join("|"), "g");
  }

  /** The text in pieces, none of them empty. */
  split(text: string): readonly Piece[] {
    const pieces: Piece[] = [];
    let end = 0;
    const add = (start: number, stop: number, token?: AddedTokenJson): void => {
      if (start < stop) pieces.push({ token, text: text.slice(start, stop), at: start });
    };
    for (const { 0: content, index } of this.#pattern ? text.matchAll(this.#pattern) : []) {
      const token = this.#tokens.get(content);
      const stop = index + content.length;
      // A token of white space may lie in what an earlier one has taken.
      if (token === undefined || index < end) continue;
      if (token.single_word && withinWord(text, index, stop)) continue;
      const start = token.lstrip ? spacesBefore(text, index, end) : index;
      add(end, start);
      end = token.rstrip ? spacesAfter(text, stop) : stop;
      add(start, end, token);
    }
    add(end, text.length);
    return pieces;
  }
}

/** Whether a letter or its like touches either end. */
function withinWord(text: string, start: number, stop: number): boolean {
  const isPair = /^[\ud800-\udbff][\udc00-\udfff]$/.test(text.slice(Math.max(0, start - 2), start));
  return WORD.test(text.slice(isPair ? start - 2 : Math.max(0, start - 1), start)) ||
    WORD.test(String.fromCodePoint(text.codePointAt(stop) ?? 0));
}

/** Where the white space before `start` begins, `from` at the earliest. */
function spacesBefore(text: string, start: number, from: number): number {
  while (start > from && SPACE.test(text.charAt(start - 1))) start--;
  return start;
}

function spacesAfter(text: string, stop: number): number {
  while (stop < text.length && SPACE.test(text.charAt(stop))) stop++;
  return stop;
}
