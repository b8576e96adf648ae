/** Tokens that a request bars: all but those of a list, and those that would end a word of another. */

/** Added to a barred token's logit: finite, so that a grammar may still draw what it forces. */
export const BARRED = -10_000;

/** A mask of these tokens alone, 32 a word, as `SampleRow` has it. */
export function maskOf(tokens: readonly number[], vocabSize: number): Int32Array<ArrayBuffer> {
  const mask = new Int32Array(Math.ceil(vocabSize / 32));
  for (const token of tokens) mask[token >> 5] = (mask[token >> 5] ?? 0) | (1 << (token & 31));
  return mask;
}

/** Which tokens may not come next, for words of one token or more. */
export class BarredWords {
  /** Last tokens, by the tokens that come before them in the word. */
  readonly #words: readonly (readonly number[])[];
  readonly #longest: number;
  /** The output's last tokens, as many as a word has before its end. */
  readonly #recent: number[] = [];

  constructor(words: readonly (readonly number[])[]) {
    this.#words = words.filter((word) => word.length > 0);
    this.#longest = Math.max(0, ...words.map((word) => word.length - 1));
  }

  push(token: number): void {
    this.#recent.push(token);
    if (this.#recent.length > this.#longest) this.#recent.shift();
  }

  next(): ReadonlySet<number> {
    const barred = new Set<number>();
    for (const word of this.#words) {
      const before = word.length - 1;
      const start = this.#recent.length - before;
      const fits = start >= 0 && word.slice(0, -1).every((id, i) => this.#recent[start + i] === id);
      const last = word.at(-1);
      if (fits && last !== undefined) barred.add(last);
    }
    return barred;
  }
}
