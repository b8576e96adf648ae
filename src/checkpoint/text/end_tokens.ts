/**
 * The tokens at which a turn ends. Files name them in several places that often contradict each
 * other, and a chat that misses one runs on and invents the other side's turns; so all count.
 */

import type { Tokenizer } from "../checkpoint.ts";

/** Texts that end a turn, whatever a GGUF says of them (llama.cpp's llama-vocab.cpp). */
export const END_OF_TURN: ReadonlySet<string> = new Set([
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<end_of_turn>",
  "<end_of_utterance>",
  "<EOT>",
  "_<EOT>",
  "[EOT]",
]);

/** Texts that end a whole text, where they are control tokens; from the same list. */
export const END_OF_TEXT: ReadonlySet<string> = new Set([
  "<|endoftext|>",
  "<|end_of_text|>",
  "</s>",
  "<eos>",
  "[EOS]",
]);

/** Ids that end a turn, and what people should know of how they were found. */
export interface EndTokens {
  readonly ids: readonly number[];
  readonly warnings: readonly string[];
}

/**
 * Those that a GGUF's metadata names, and the known texts among its control tokens, as llama.cpp
 * finds them. A warning tells of an end of turn that only its text gave away.
 */
export function ggufEndTokens(named: readonly number[], tokenizer: Tokenizer): EndTokens {
  const declared = named.filter((id) => id < tokenizer.vocabSize);
  const known = [...END_OF_TURN, ...END_OF_TEXT].flatMap((text) => {
    const id = tokenizer.tokenId(text);
    return id !== undefined && tokenizer.isSpecial(id) && !declared.includes(id) ? [id] : [];
  });
  const turns = known.filter((id) => END_OF_TURN.has(tokenizer.tokenText(id)));
  const show = (ids: readonly number[]): string =>
    ids.map((id) => `${tokenizer.tokenText(id)} (${id})`).join(", ") || "nothing";
  return {
    ids: [...declared, ...known],
    warnings: [
      ...named.filter((id) => !declared.includes(id)).map((id) =>
        `the end token ${id} is ignored: the vocabulary has ${tokenizer.vocabSize} tokens`
      ),
      ...(turns.length === 0 ? [] : [
        `a turn ends at ${show(turns)}, as the token's text says, and not only at ` +
        `${show(declared)}, which the metadata names`,
      ]),
    ],
  };
}

/** Those that config.json and generation_config.json name, and the tokenizer's own. */
export function directoryEndTokens(
  named: readonly number[],
  eosToken: string | undefined,
  tokenizer: Tokenizer,
): EndTokens {
  if (eosToken === undefined) return { ids: named, warnings: [] };
  const id = tokenizer.tokenId(eosToken);
  if (id !== undefined) return { ids: [...new Set([...named, id])], warnings: [] };
  const warning = `the eos_token '${eosToken}' is not in the vocabulary`;
  return { ids: named, warnings: [warning] };
}
