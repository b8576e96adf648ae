/**
 * The budget of keys and values, and all that counts in it: what rows have reserved, pages that left
 * rows keep, and cached prefixes. Room is made by giving up the kept pages first, then prefixes. It
 * counts bytes; it owns no memory but the prefix cache.
 */
import { PrefixCache } from "./prefix_cache.ts";

/** Pages that no row has reserved, in every lane. */
export interface Spare {
  readonly bytes: number;
  /** Gives pages back to the system until at most `bytes` are left. */
  shrinkTo(bytes: number): void;
}

export interface KvMemoryOptions {
  /** Bytes for rows, kept pages and cached prefixes together. */
  readonly total: number;
  readonly spare: Spare;
  /** Bytes of these that cached prefixes may take; 0 switches the cache off. */
  readonly cacheLimit: number;
}

/** Rows come first: cached prefixes live in what rows leave, kept pages in what both leave. */
export class KvMemory {
  readonly total: number;
  readonly cacheLimit: number;
  readonly cache = new PrefixCache();
  readonly #spare: Spare;
  #reserved = 0;

  constructor(options: KvMemoryOptions) {
    this.total = options.total;
    this.#spare = options.spare;
    this.cacheLimit = Math.min(options.cacheLimit, options.total);
  }

  /** Bytes that rows have reserved. */
  get reserved(): number {
    return this.#reserved;
  }

  /** Bytes of pages that no row has reserved. */
  get spare(): number {
    return this.#spare.bytes;
  }

  /** Bytes that rows may still reserve, cached prefixes and kept pages counted as free. */
  get free(): number {
    return this.total - this.#reserved;
  }

  /** Changes a reservation from `before` to `after` bytes, making room where needed. */
  reserve(before: number, after: number): void {
    const change = after - before;
    if (change === 0) return;
    if (change > this.free) {
      throw new Error(`internal: ${change} bytes reserved where ${this.free} are free`);
    }
    this.#reserved += change;
    this.#shrinkTo(this.free);
  }

  /** Makes room for one more cached block; false where rows leave none. */
  admitBlock(bytes: number): boolean {
    const limit = Math.min(this.cacheLimit, this.free);
    if (bytes > limit) return false;
    this.cache.shrinkTo(limit - bytes);
    this.#spare.shrinkTo(this.free - this.cache.bytes - bytes);
    return true;
  }

  /** Kept pages and prefixes together take at most so many bytes. */
  #shrinkTo(bytes: number): void {
    this.#spare.shrinkTo(Math.max(0, bytes - this.cache.bytes));
    this.cache.shrinkTo(bytes);
  }
}
