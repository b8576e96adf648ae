/** The model's own most likely tokens and their log probabilities: temperature 1, no mask, no penalty. */
import type { GivenLogprob, Sampled } from "../model.ts";
import { fallingOrder } from "./choice.ts";
import { kthLargest, largest, type RowLogits } from "./row_logits.ts";

/** A row's log probabilities, of which a few are asked for. */
export interface Logprobs {
  /** Log of the sum of exponentials. */
  readonly norm: number;
  readonly top: NonNullable<Sampled["top"]>;
}

/** The `count` most likely tokens, of equal ones the first. */
export function logprobsOf(row: RowLogits, count: number, most: number, sum: number): Logprobs {
  const norm = Math.fround(most + Math.fround(Math.log(sum)));
  const { ids, logits } = largest(row, count) ?? allFrom(row, count);
  const top = Array.from(fallingOrder(logits).subarray(0, count), (index) => ({
    token: ids[index],
    logprob: Math.fround(logits[index] - norm),
  }));
  return { norm, top };
}

/** Log probabilities and ranks of these tokens. */
export function givenLogprobs(
  { data, start, vocabSize }: RowLogits,
  tokens: readonly number[],
  norm: number,
): readonly GivenLogprob[] {
  return tokens.map((token) => {
    const logit = data[start + token];
    let rank = 1;
    for (let at = start; at < start + vocabSize; at++) if (data[at] > logit) rank++;
    return { token, logprob: Math.fround(logit - norm), rank };
  });
}

/** Where far too many tokens are as likely: the first of them. */
function allFrom(
  { data, start, vocabSize }: RowLogits,
  count: number,
): { readonly ids: Int32Array; readonly logits: Float32Array } {
  const row = data.subarray(start, start + vocabSize);
  const least = kthLargest(row.slice(), count);
  const found: number[] = [];
  let equal = 0;
  for (let token = 0; token < vocabSize; token++) {
    if (row[token] > least || (row[token] === least && equal++ < count)) found.push(token);
  }
  return { ids: Int32Array.from(found), logits: Float32Array.from(found, (token) => row[token]) };
}
