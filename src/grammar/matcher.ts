/**
 * One sequence's position in a grammar. It outlives the thread that it is matched on, because it
 * keeps the tokens it took.
 */

/** Which tokens a grammar allows next. Masks are made while the model runs. */
export interface TokenMatcher {
  /** Whether `mask` is that of the next token. */
  readonly ready: boolean;
  /** Allowed next tokens as bits, 32 a word; valid while `ready`. */
  readonly mask: Int32Array;
  /** Set where the matcher is broken: its sequence cannot go on. */
  readonly error: Error | undefined;
  /** Resolves when `ready` holds or `error` is set. */
  settled(): Promise<void>;
  /** Moves on by a token that the mask allowed. */
  accept(token: number): void;
  dispose(): void;
}

/** Sends a matcher's tokens to its thread, if it has one at the moment. */
export interface MatcherHome {
  accept(matcher: ThreadMatcher, token: number): void;
  dispose(matcher: ThreadMatcher): void;
}

/** A matcher on a grammar thread. */
export class ThreadMatcher implements TokenMatcher {
  mask: Int32Array = new Int32Array(0);
  error: Error | undefined;
  /** All tokens taken; a new thread has to be told them. */
  readonly tokens: number[] = [];
  #ready = false;
  #waiters: (() => void)[] = [];

  readonly schema: string;
  readonly tenant: string;
  readonly #home: MatcherHome;

  constructor(
    readonly id: number,
    { schema, tenant, home }: {
      readonly schema: string;
      readonly tenant: string;
      readonly home: MatcherHome;
    },
  ) {
    this.schema = schema;
    this.tenant = tenant;
    this.#home = home;
  }

  get ready(): boolean {
    return this.#ready;
  }

  settled(): Promise<void> {
    if (this.#ready || this.error !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  accept(token: number): void {
    this.tokens.push(token);
    this.#ready = false;
    this.#home.accept(this, token);
  }

  dispose(): void {
    this.#home.dispose(this);
  }

  /** Takes the mask after `count` tokens; one that is out of date is ignored. */
  take(mask: Int32Array, count: number): void {
    if (count !== this.tokens.length) return;
    this.mask = mask;
    this.#ready = true;
    this.#settle();
  }

  fail(error: Error): void {
    this.error = error;
    this.#settle();
  }

  #settle(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
