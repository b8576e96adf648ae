/**
 * One sequence's position in a grammar. It outlives the thread that it is matched on, because it
 * keeps the tokens it took.
 */

/** A token, and the mask behind it: which ones the grammar then allows. */
export interface Foreseen {
  readonly token: number;
  readonly mask: Int32Array<ArrayBuffer>;
}

/** Which tokens a grammar allows next. Masks are made while the model runs. */
export interface TokenMatcher {
  /** Whether `mask` is that of the next token. */
  readonly ready: boolean;
  /** Allowed next tokens as bits, 32 a word; valid while `ready`. */
  readonly mask: Int32Array;
  /** Most tokens that are foreseen. */
  readonly foresight: number;
  /**
   * While `ready`: tokens that spell text which the grammar forces, one after the other. Other
   * tokens may spell the same text.
   */
  readonly foreseen: readonly Foreseen[];
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
  readonly foresight: number;
  /** Tells its thread of tokens, if it has a thread at the moment. */
  readonly onAccept: (matcher: ThreadMatcher, tokens: readonly number[]) => void;
  readonly onDispose: (matcher: ThreadMatcher) => void;
}

/** A matcher on a grammar thread. */
export class ThreadMatcher implements TokenMatcher {
  mask: Int32Array = new Int32Array(0);
  foreseen: readonly Foreseen[] = [];
  error: Error | undefined;
  /** All tokens taken. */
  readonly #tokens: number[] = [];
  /** How many of them its thread knows: of those that were foreseen it is not told at once. */
  #told = 0;
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

  get foresight(): number {
    return this.#options.foresight;
  }

  get ready(): boolean {
    return this.#ready;
  }

  settled(): Promise<void> {
    if (this.#ready || this.error !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  accept(token: number): void {
    this.#tokens.push(token);
    const [next, ...rest] = this.foreseen;
    if (this.#ready && next?.token === token) {
      this.mask = next.mask;
      this.foreseen = rest;
      return;
    }
    this.#ready = false;
    this.foreseen = [];
    const news = this.#tokens.slice(this.#told);
    this.#told = this.#tokens.length;
    this.#options.onAccept(this, news);
  }

  /** All tokens taken, for a new thread, which then knows them. */
  tell(): readonly number[] {
    this.#told = this.#tokens.length;
    return [...this.#tokens];
  }

  dispose(): void {
    this.#options.onDispose(this);
  }

  /** Takes what its thread says after `count` tokens, unless it is out of date. */
  take(mask: Int32Array, count: number, foreseen: readonly Foreseen[]): void {
    if (count !== this.#tokens.length) return;
    this.mask = mask;
    this.foreseen = foreseen;
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
