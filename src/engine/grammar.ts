/**
 * Placeholder.
 */
import type { Grammar } from "./request.ts";

/** One sequence's place in a grammar. Masks are made beside the model's run, not before it. */
export interface TokenMatcher {
  /** Whether `mask` is that of the next token. */
  readonly ready: boolean;
  /** Allowed next tokens, 32 a word, valid while `ready`. */
  readonly mask: Int32Array;
  /** Set where the matcher is broken: its sequence cannot go on. */
  readonly error: Error | undefined;
  /** Resolves when `ready` or `error` is set. */
  settled(): Promise<void>;
  /** Moves on by a token that the mask allowed. */
  accept(token: number): void;
  dispose(): void;
}

/** Makes matchers. */
export interface GrammarSource {
  /** @throws {TypeError} naming what the grammar asks for and the library cannot express. */
  matcher(grammar: Grammar): Promise<TokenMatcher>;
  close(): void;
}
