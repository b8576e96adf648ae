/**
 * Saved keys and values of blocks of 32 tokens, found again by a chained hash: a block's key is
 * SHA-256 over its parent's key and its tokens. The chain's root is SHA-256 over tenant, core and
 * lane, so no tenant finds another's blocks, and no new version of a core those of the old one.
 */
import { createHash } from "node:crypto";
import type { KvBlock } from "../executor/model.ts";

/** Tokens in a block. */
export const BLOCK_TOKENS = 32;
/** A hit of at least so many tokens is always worth a prefill run of its own. */
const WORTHWHILE_TOKENS = 64;

/** Who may find a prefix again. */
export interface PrefixScope {
  readonly tenant: string;
  /** Digest of the core, undefined for the base. */
  readonly core: string | undefined;
  /** Digest of the lane's factors, undefined for the base's own lane. */
  readonly lane: string | undefined;
}

/**
 * Whether a hit is taken. A row with a cached prefix is prefilled alone, so the hit has to save
 * more than a place in a batch of first prompts does: at least 64 tokens, or half of all.
 */
export function worthTaking(hit: number, tokens: number): boolean {
  return hit >= WORTHWHILE_TOKENS || (hit > 0 && 2 * hit >= tokens);
}

/** One sequence's blocks: their keys, each hashed once, and what is known of them in the cache. */
export class PrefixChain {
  /** How many of the first blocks are known to be in the cache. */
  savedBlocks = 0;
  readonly #keys: string[];
  #hit = { generation: -1, length: 0, tokens: 0 };

  constructor(scope: PrefixScope) {
    const root = JSON.stringify([scope.tenant, scope.core ?? null, scope.lane ?? null]);
    this.#keys = [createHash("sha256").update("lembas.prefix/1\0").update(root).digest("base64")];
  }

  /** The key before block `index`: the parent of that block. */
  parent(index: number, tokens: Int32Array): string {
    while (this.#keys.length <= index) this.#extend(tokens);
    const key = this.#keys[index];
    if (key === undefined) throw new Error(`internal: no key for block ${index}`);
    return key;
  }

  key(index: number, tokens: Int32Array): string {
    return this.parent(index + 1, tokens);
  }

  /**
   * The cached tokens of a sequence of so many, as `compute` finds them: computed again only when
   * the cache (`PrefixCache.generation`) or the length has changed.
   */
  hit(generation: number, length: number, compute: () => number): number {
    if (this.#hit.generation !== generation || this.#hit.length !== length) {
      this.#hit = { generation, length, tokens: compute() };
    }
    return this.#hit.tokens;
  }

  #extend(tokens: Int32Array): void {
    const index = this.#keys.length - 1;
    const block = tokens.subarray(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS);
    if (block.length < BLOCK_TOKENS) {
      throw new Error(`internal: block ${index} has ${block.length} of ${BLOCK_TOKENS} tokens`);
    }
    const bytes = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
    const hash = createHash("sha256").update(this.#keys[index] ?? "").update(bytes);
    this.#keys.push(hash.digest("base64"));
  }
}

interface Entry {
  readonly key: string;
  readonly parent: string;
  readonly block: KvBlock;
}

/**
 * Saved blocks, the longest unused first. Touching a chain moves its blocks to the end, the last
 * block first, so every block stands before its parent and the first one to be evicted is always a
 * leaf.
 */
export class PrefixCache {
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #generation = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** Number of blocks. */
  get size(): number {
    return this.#entries.size;
  }

  /** A number that changes whenever a block comes or goes. */
  get generation(): number {
    return this.#generation;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** How many of the first `limit` blocks of a chain are here. */
  present(chain: PrefixChain, tokens: Int32Array, limit: number): number {
    let count = 0;
    while (count < limit && this.#entries.has(chain.key(count, tokens))) count++;
    return count;
  }

  /** Marks the first `count` blocks of a chain as used just now. */
  touch(chain: PrefixChain, tokens: Int32Array, count: number): void {
    for (let index = count - 1; index >= 0; index--) {
      const key = chain.key(index, tokens);
      const entry = this.#entries.get(key);
      if (entry === undefined) continue;
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
  }

  block(chain: PrefixChain, tokens: Int32Array, index: number): KvBlock {
    const entry = this.#entries.get(chain.key(index, tokens));
    if (entry === undefined) throw new Error(`internal: block ${index} is not in the cache`);
    return entry.block;
  }

  /**
   * Takes ownership of a block; releases it where its key is here already or its parent's is not.
   */
  insert(chain: PrefixChain, tokens: Int32Array, index: number, block: KvBlock): void {
    const key = chain.key(index, tokens);
    const parent = chain.parent(index, tokens);
    if (this.#entries.has(key) || (index > 0 && !this.#entries.has(parent))) {
      block.release();
      return;
    }
    this.#entries.set(key, { key, parent, block });
    this.#bytes += block.byteLength;
    this.#generation++;
    this.touch(chain, tokens, index + 1);
  }

  /** Evicts the longest unused leaves until at most `bytes` are held. */
  shrinkTo(bytes: number): void {
    for (const entry of this.#entries.values()) {
      if (this.#bytes <= bytes) return;
      this.#entries.delete(entry.key);
      this.#bytes -= entry.block.byteLength;
      this.#generation++;
      entry.block.release();
    }
  }

  /** @throws {Error} `internal: …` where bytes, order or parents do not add up. */
  checkIntegrity(): void {
    let bytes = 0;
    const seen = new Set<string>();
    for (const { key, parent, block } of this.#entries.values()) {
      if (seen.has(parent)) throw new Error(`internal: block ${key} stands behind its parent`);
      seen.add(key);
      bytes += block.byteLength;
    }
    if (bytes !== this.#bytes) {
      throw new Error(
        `internal: prefix cache counts ${this.#bytes} bytes, its blocks have ${bytes}`,
      );
    }
  }
}
