/**
 * The budget of keys and values: what rows have reserved, what cached prefixes hold, and room made
 * by evicting the latter. It counts bytes; it owns no memory but the prefix cache.
 */
import { PrefixCache } from "./prefix_cache.ts";

/** Rows are counted in steps of so many tokens: memory comes in pages, not in tokens. */
export const GRANULE_TOKENS = 16;

/** Bytes that count for a row of `tokens` tokens. */
export function kvBytes(tokens: number, bytesPerToken: number): number {
  return Math.ceil(tokens / GRANULE_TOKENS) * GRANULE_TOKENS * bytesPerToken;
}

/** Tokens of the longest row that fits into `bytes` alone. */
export function tokensWithin(bytes: number, bytesPerToken: number): number {
  return Math.floor(bytes / (GRANULE_TOKENS * bytesPerToken)) * GRANULE_TOKENS;
}

export interface KvMemoryOptions {
  /** Bytes for rows and cached prefixes together. */
  readonly total: number;
  /** Bytes of these that cached prefixes may take; 0 switches the cache off. */
  readonly cacheLimit: number;
}

/** Rows come first: cached prefixes live in what rows leave. */
export class KvMemory {
  readonly total: number;
  readonly cacheLimit: number;
  readonly cache = new PrefixCache();
  #reserved = 0;

  constructor(options: KvMemoryOptions) {
    this.total = options.total;
    this.cacheLimit = Math.min(options.cacheLimit, options.total);
  }

  /** Bytes that rows have reserved. */
  get reserved(): number {
    return this.#reserved;
  }

  /** Bytes that rows may still reserve, cached prefixes counted as free. */
  get free(): number {
    return this.total - this.#reserved;
  }

  /** Changes a row's reservation from `before` to `after` bytes, evicting where needed. */
  reserve(before: number, after: number): void {
    const change = after - before;
    if (change > this.free) {
      throw new Error(`internal: ${change} bytes reserved where ${this.free} are free`);
    }
    this.#reserved += change;
    this.cache.shrinkTo(this.free);
  }

  /** Makes room for one more cached block; false where rows leave none. */
  admitBlock(bytes: number): boolean {
    const limit = Math.min(this.cacheLimit, this.free);
    if (bytes > limit) return false;
    this.cache.shrinkTo(limit - bytes);
    return true;
  }
}
