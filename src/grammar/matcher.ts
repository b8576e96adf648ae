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

export interface ThreadMatcherOptions {
  /** Its number, among all of a pool. */
  readonly id: number;
  readonly schema: string;
  /** The request's field that asks for the grammar. */
  readonly field: string;
  readonly tenant: string;
  /** Tells its thread of a token, if it has a thread at the moment. */
  readonly onAccept: (matcher: ThreadMatcher, token: number) => void;
  readonly onDispose: (matcher: ThreadMatcher) => void;
}

/** A matcher on a grammar thread. */
export class ThreadMatcher implements TokenMatcher {
  mask: Int32Array = new Int32Array(0);
  error: Error | undefined;
  /** All tokens taken; a new thread has to be told them. */
  readonly tokens: number[] = [];
  #ready = false;
  #waiters: (() => void)[] = [];

  readonly #options: ThreadMatcherOptions;

  constructor(options: ThreadMatcherOptions) {
    this.#options = options;
  }

  get id(): number {
    return this.#options.id;
  }

  get schema(): string {
    return this.#options.schema;
  }

  get field(): string {
    return this.#options.field;
  }

  get tenant(): string {
    return this.#options.tenant;
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
    this.#options.onAccept(this, token);
  }

  dispose(): void {
    this.#options.onDispose(this);
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
