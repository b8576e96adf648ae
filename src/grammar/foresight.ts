/**
 * Foresees tokens where a grammar forces the text: where of all tokens that may come next each one
 * begins the longest, the text goes on with the longest or with a beginning of it. What is foreseen
 * is likely and not certain, as several tokens may spell the same text.
 */
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import type { Foreseen } from "./matcher.ts";

/** More allowed tokens than one text has beginnings: then nothing is forced. */
const MOST_ALLOWED = 32;

export interface ForesightOptions {
  /** The spelling of each token; the same characters spell the same bytes. */
  readonly vocabulary: readonly string[];
  readonly stopTokens: readonly number[];
  /** Most tokens that are foreseen. */
  readonly foresight: number;
}

export class Foresight {
  readonly #options: ForesightOptions;

  constructor(options: ForesightOptions) {
    this.#options = options;
  }

  /** Tokens from a matcher's place on, whose mask is given; the matcher stays where it is. */
  async of(matcher: XGrammar.GrammarMatcher, mask: Int32Array): Promise<Foreseen[]> {
    const found: Foreseen[] = [];
    let token = this.#forced(mask);
    while (token !== undefined && found.length < this.#options.foresight) {
      if (!matcher.acceptToken(token)) throw new Error(`token ${token} is masked as allowed`);
      const next = new Int32Array(await matcher.getNextTokenBitmask());
      found.push({ token, mask: next });
      token = this.#forced(next);
    }
    if (found.length > 0) matcher.rollBack(found.length);
    return found;
  }

  #forced(mask: Int32Array): number | undefined {
    const { vocabulary, stopTokens, foresight } = this.#options;
    if (foresight === 0) return undefined;
    const allowed = fewBits(mask, MOST_ALLOWED);
    if (allowed === undefined || allowed.some((id) => stopTokens.includes(id))) return undefined;
    const [first, ...others] = allowed.map((id) => ({ id, spelling: vocabulary[id] ?? "" }));
    if (first === undefined) return undefined;
    let longest = first;
    for (const each of others) {
      if (each.spelling.length > longest.spelling.length) longest = each;
    }
    const forced = allowed.every((id) => longest.spelling.startsWith(vocabulary[id] ?? ""));
    return forced && longest.spelling !== "" ? longest.id : undefined;
  }
}

/** The numbers of the bits that are set; undefined where there are more than `most`. */
function fewBits(mask: Int32Array, most: number): readonly number[] | undefined {
  const found: number[] = [];
  for (let index = 0; index < mask.length; index++) {
    for (let left = mask[index] ?? 0; left !== 0; left &= left - 1) {
      if (found.length === most) return undefined;
      found.push(32 * index + 31 - Math.clz32(left & -left));
    }
  }
  return found;
}
