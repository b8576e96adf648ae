/** What is kept of a response, and a chain of them. */

export interface StoredResponse {
  readonly id: string;
  /** The response that it goes on from. */
  readonly previous: string | null;
  readonly createdAt: number;
  /** From then on it is not there any more. */
  readonly expiresAt: number;
  /** JSON of the items that were put in, without those before it. */
  readonly input: string;
  /** JSON of the items that came out. */
  readonly output: string;
  /** JSON of all else that it says of itself, an object. */
  readonly body: string;
  /**
   * Until when, in Unix milliseconds, whoever runs it vouches for it: from then on it was lost; null =
   * it has ended.
   */
  readonly runningUntil: number | null;
}

/** How a response ended that ran. */
export type ResponseEnd = Pick<StoredResponse, "output" | "body">;

export type ChainPart = Pick<
  StoredResponse,
  "id" | "previous" | "input" | "output" | "runningUntil"
>;

/** A response with all that it goes on from. */
export type Chain =
  /** The first one first. */
  | { readonly type: "whole"; readonly responses: readonly ChainPart[] }
  /** The response of this id is not there, itself or one before it. */
  | { readonly type: "gone"; readonly id: string }
  | { readonly type: "too large"; readonly bytes: number };
