/**
 * What names stand for, remembered for a while: bounded, the least recently asked for out first, and
 * forgotten when somebody says that it has changed. It owns no truth and knows no name's meaning.
 */

export interface NameCacheOptions {
  /** Scopes that are remembered. */
  readonly maxScopes: number;
  /** Milliseconds after which an answer is asked for again; Infinity = only when told so. */
  readonly freshMs: number;
  /** Milliseconds of some clock. */
  readonly now?: () => number;
}

interface Answer<V> {
  readonly value: Promise<V>;
  readonly since: number;
}

/** Names of one scope that are remembered. */
const MAX_NAMES = 64;

/** Answers by scope and name within it; a scope is forgotten as a whole. */
export class NameCache<V> {
  readonly #options: NameCacheOptions;
  readonly #now: () => number;
  readonly #scopes = new Map<string, Map<string, Answer<V>>>();

  constructor(options: NameCacheOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** How many scopes are remembered. */
  get size(): number {
    return this.#scopes.size;
  }

  /**
   * What is remembered, or what `ask` says; those who ask meanwhile share it. A failure is not
   * remembered.
   */
  async get(scope: string, name: string, ask: () => Promise<V>): Promise<V> {
    const names = this.#use(scope);
    const known = names.get(name);
    if (known !== undefined && this.#now() - known.since < this.#options.freshMs) {
      return await known.value;
    }
    if (names.size >= MAX_NAMES) names.clear();
    const answer = { value: ask(), since: this.#now() };
    names.set(name, answer);
    try {
      return await answer.value;
    } catch (error) {
      if (names.get(name) === answer) names.delete(name);
      throw error;
    }
  }

  /** Forgets a scope; who has asked already may still get the old answer, nobody else. */
  forget(scope: string): void {
    this.#scopes.delete(scope);
  }

  clear(): void {
    this.#scopes.clear();
  }

  #use(scope: string): Map<string, Answer<V>> {
    const names = this.#scopes.get(scope) ?? new Map();
    this.#scopes.delete(scope);
    this.#scopes.set(scope, names);
    if (this.#scopes.size > this.#options.maxScopes) {
      const [oldest] = this.#scopes.keys();
      if (oldest !== undefined) this.#scopes.delete(oldest);
    }
    return names;
  }
}
