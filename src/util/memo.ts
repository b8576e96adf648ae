/**
 * What is kept to be had again: a value made once, a map of what was used lately, and answers that are
 * believed for a while.
 */

/**
 * A value that is made at the first asking, once for all who ask until it is there. Trap that it is
 * for: a promise kept with `??=` keeps its failure, too.
 */
export class Once<T> {
  readonly #make: () => Promise<T>;
  #value: Promise<T> | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The value, or what its making was refused with; the next one to ask makes it anew then. */
  get(): Promise<T> {
    if (this.#value !== undefined) return this.#value;
    const made = this.#make();
    this.#value = made;
    made.catch(() => {
      if (this.#value === made) this.#value = undefined;
    });
    return made;
  }

  /** What was made, or is being made; undefined where nobody asked, or it failed. */
  get known(): Promise<T> | undefined {
    return this.#value;
  }
}

/** A map of at most so many entries; the one that was not used for longest goes first. */
export class Lru<K, V> {
  readonly #most: number;
  readonly #onEvict: (value: V) => void;
  /** The one that was not used for longest comes first. */
  readonly #entries = new Map<K, V>();

  /** @param onEvict is given what goes because others need the room */
  constructor(most: number, onEvict: (value: V) => void = () => {}) {
    this.#most = most;
    this.#onEvict = onEvict;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): V | undefined {
    const value = this.#entries.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }

  set(key: K, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    const [oldest] = this.#entries;
    if (this.#entries.size <= this.#most || oldest === undefined) return;
    this.#entries.delete(oldest[0]);
    this.#onEvict(oldest[1]);
  }

  values(): Iterable<V> {
    return this.#entries.values();
  }

  delete(key: K): boolean {
    return this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}

export interface AnswersOptions {
  /** Answers that are kept. */
  readonly most: number;
  /** Milliseconds after which an answer is asked for anew; Infinity = when it is forgotten. */
  readonly freshMs: number;
  /** "last" = where asking anew fails, the old answer serves on; default: the failure is told. */
  readonly onFailure?: "last" | undefined;
  /** Milliseconds of a clock, which may be set back. Default: since the process began. */
  readonly now?: (() => number) | undefined;
}

interface Answer<V> {
  readonly value: Promise<V>;
  readonly askedAt: number;
}

/** What somebody slow has answered. Who asks meanwhile shares the answer; a failure is not kept. */
export class Answers<V> {
  readonly #options: AnswersOptions;
  readonly #now: () => number;
  readonly #answers: Lru<string, Answer<V>>;

  constructor(options: AnswersOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#answers = new Lru(options.most);
  }

  /** What is known of the key, or what `ask` says. */
  get(key: string, ask: () => Promise<V>): Promise<V> {
    const { freshMs, onFailure } = this.#options;
    const now = this.#now();
    const known = this.#answers.get(key);
    if (known !== undefined && Math.abs(now - known.askedAt) < freshMs) return known.value;
    const last = onFailure === "last" ? known : undefined;
    const value = ask().catch((error) => {
      if (this.#answers.get(key) === answer) this.#restore(key, last);
      if (last === undefined) throw error;
      return last.value;
    });
    const answer: Answer<V> = { value, askedAt: now };
    this.#answers.set(key, answer);
    return value;
  }

  /** Who has asked already may still get an old answer, nobody else. */
  forget(key: string): void {
    this.#answers.delete(key);
  }

  /** As `forget`, for all keys. */
  clear(): void {
    this.#answers.clear();
  }

  #restore(key: string, answer: Answer<V> | undefined): void {
    if (answer === undefined) this.#answers.delete(key);
    else this.#answers.set(key, answer);
  }
}

/** Answers in scopes, each of which is forgotten as a whole. */
export class ScopedAnswers<V> {
  readonly #options: AnswersOptions;
  readonly #scopes: Lru<string, Answers<V>>;

  /** @param options `most` bounds the scopes; one keeps 64 answers */
  constructor(options: AnswersOptions) {
    this.#options = options;
    this.#scopes = new Lru(options.most);
  }

  /** Scopes that are kept. */
  get size(): number {
    return this.#scopes.size;
  }

  /** What is known of the key within its scope, or what `ask` says. */
  get(scope: string, key: string, ask: () => Promise<V>): Promise<V> {
    const answers = this.#scopes.get(scope) ?? new Answers({ ...this.#options, most: 64 });
    this.#scopes.set(scope, answers);
    return answers.get(key, ask);
  }

  /** Who has asked already may still get an old answer, nobody else. */
  forget(scope: string): void {
    this.#scopes.delete(scope);
  }

  clear(): void {
    this.#scopes.clear();
  }
}
