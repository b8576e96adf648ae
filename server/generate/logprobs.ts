// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Log probabilities in OpenAI's two shapes: a list of tokens with their bytes (chat), and parallel
 * arrays (completions).
 */
import type { Tokenizer } from "../../src/checkpoint/checkpoint.ts";
import type { TokenLogprob } from "../../src/engine/request/request.ts";
import type { ServerContext } from "../context.ts";
import type { ChatTokenLogprob } from "../http/schema/chat.ts";
import type { GenerationFields, PromptLogprobs } from "../http/schema/common.ts";
import type { CompletionLogprobs } from "../http/schema/completions.ts";

/** Chat's `logprobs.content`. The sampled token is among those that were asked for by id, as in vLLM. */
export function chatLogprobs(
  tokenizer: Tokenizer,
  logprobs: readonly TokenLogprob[],
  { return_tokens_as_token_ids: ids, logprob_token_ids: asked }: Pick<
    GenerationFields,
    "return_tokens_as_token_ids" | "logprob_token_ids"
  >,
): ChatTokenLogprob[] {
  const one = (token: number, logprob: number) => {
    const bytes = bytesOf(tokenizer, token);
    const text = ids ? `token_id:${token}` : new TextDecoder().decode(bytes);
    return { token: text, logprob, bytes: [...bytes] };
  };
  return logprobs.map(({ token, logprob, top }) => ({
    ...one(token, logprob),
    top_logprobs: [
      ...(asked && !top.some((other) => other.token === token) ? [one(token, logprob)] : []),
      ...top.map((other) => one(other.token, other.logprob)),
    ],
  }));
}

/**
 * Completions' arrays; `offset` is where the first token begins in the text, in characters. The
 * sampled token is always among `top_logprobs`, as OpenAI has it, and the first, as in vLLM.
 */
export function completionLogprobs(
  tokenizer: Tokenizer,
  logprobs: readonly TokenLogprob[],
  offset: number,
  names: TokenNames = completionToken,
): CompletionLogprobs {
  const arrays: CompletionLogprobs = {
    tokens: [],
    token_logprobs: [],
    top_logprobs: [],
    text_offset: [],
  };
  for (const { token, logprob, top } of logprobs) {
    const text = names(tokenizer, token);
    arrays.tokens.push(text);
    arrays.token_logprobs.push(logprob);
    arrays.top_logprobs.push(Object.fromEntries([
      [text, logprob],
      ...top.map((other) => [names(tokenizer, other.token), other.logprob]),
      // another token may have the same text
      [text, logprob],
    ]));
    arrays.text_offset.push(offset);
    offset += visibleLength(tokenizer, token);
  }
  return arrays;
}

/** The same of a prompt that is echoed from its first token on, of which nothing is known. */
export function echoedLogprobs(
  tokenizer: Tokenizer,
  prompt: readonly number[],
  logprobs: readonly TokenLogprob[],
  names: TokenNames,
): CompletionLogprobs {
  const [first] = prompt;
  if (first === undefined) return completionLogprobs(tokenizer, [], 0, names);
  const rest = completionLogprobs(tokenizer, logprobs, visibleLength(tokenizer, first), names);
  return {
    tokens: [names(tokenizer, first), ...rest.tokens],
    token_logprobs: [null, ...rest.token_logprobs],
    top_logprobs: [null, ...rest.top_logprobs],
    text_offset: [0, ...rest.text_offset],
  };
}

/** vLLM's `prompt_logprobs`: by token id, the `count` most likely ones and the prompt's own. */
export function promptLogprobs(
  tokenizer: Tokenizer,
  logprobs: readonly TokenLogprob[],
  count: number,
): PromptLogprobs {
  const one = (token: number, logprob: number, rank: number) =>
    [token, { logprob, rank, decoded_token: completionToken(tokenizer, token) }] as const;
  return [
    null,
    ...logprobs.map(({ token, logprob, rank = 0, top }) =>
      Object.fromEntries([
        one(token, logprob, rank),
        ...top.slice(0, count).map((other, i) => one(other.token, other.logprob, i + 1)),
      ])
    ),
  ];
}

/** The request, naming tokens as the server does where it does not say. */
export function namingTokens<Body extends GenerationFields>(
  { options: { tokensAsIds } }: ServerContext,
  body: Body,
): Body {
  return { ...body, return_tokens_as_token_ids: body.return_tokens_as_token_ids ?? tokensAsIds };
}

/** How a token is named among log probabilities: by its text, or `token_id:` and its id (vLLM). */
export type TokenNames = (tokenizer: Tokenizer, token: number) => string;

export function namesOf({ return_tokens_as_token_ids: ids }: GenerationFields): TokenNames {
  return ids ? (_tokenizer, token) => `token_id:${token}` : completionToken;
}

/** Characters (code points) that a token adds to the text; a special token adds none. */
export function visibleLength(tokenizer: Tokenizer, token: number): number {
  if (tokenizer.isSpecial(token)) return 0;
  let length = 0;
  // a continuation byte (10xxxxxx) belongs to the character before it
  for (const byte of tokenizer.tokenBytes(token)) if ((byte & 0xc0) !== 0x80) length++;
  return length;
}

/** The token's text; one that is no whole text by itself is written `bytes:\x…`, as OpenAI does. */
function completionToken(tokenizer: Tokenizer, token: number): string {
  const bytes = bytesOf(tokenizer, token);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${[...bytes].map((b) => `\\x${b.toString(16).padStart(2, "0")}`).join("")}`;
  }
}

function bytesOf(tokenizer: Tokenizer, token: number): Uint8Array {
  const bytes = tokenizer.tokenBytes(token);
  return bytes.length > 0 ? bytes : new TextEncoder().encode(tokenizer.tokenText(token));
}
