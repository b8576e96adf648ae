// deno-lint-ignore-file camelcase -- names of the wire format
/** How long an encoder's texts may be, as a request says and as the model can. */
import { invalid } from "../errors.ts";

/** A request's ways to cut texts. */
export interface Cutting {
  readonly truncate_prompt_tokens?: number | null | undefined;
  readonly truncate?: boolean | null | undefined;
}

/** Tokens that are kept of a text. @throws {ApiError} 400 for more than the model takes */
export function lengthOf({ truncate_prompt_tokens: asked }: Cutting, maxTokens: number): number {
  if (asked === undefined || asked === null || asked === -1) return maxTokens;
  if (asked > 0 && asked <= maxTokens) return asked;
  throw invalid(
    "truncate_prompt_tokens",
    `Invalid 'truncate_prompt_tokens': ${asked} is not between 1 and ${maxTokens}, the most that ` +
      "this model takes.",
  );
}

/** @throws {ApiError} 400 for a text that would be cut, where the request wants none cut */
export function refuseLong(
  param: string,
  tokens: number,
  most: number,
  { truncate }: Cutting,
): void {
  if (truncate !== false || tokens <= most) return;
  throw invalid(
    param,
    `Invalid '${param}': the text has at least ${tokens} tokens, at most ${most} are taken. ` +
      "Shorten it, or leave 'truncate' out to have it cut.",
    "context_length_exceeded",
  );
}
