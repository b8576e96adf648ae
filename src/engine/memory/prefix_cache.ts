/**
 * Keys and values of token blocks that were computed before, found again by a chained hash. It
 * owns the saved blocks and their bytes; it knows no slot, and whose turn to be evicted it is told.
 *
 * A block's key is SHA-256 over its parent's key and its tokens; the chain's root is SHA-256 over
 * tenant, core and lane, so tenants never meet each other's blocks, nor a new core version old ones.
 */
import { createHash } from "node:crypto";
import type { KvBlock } from "../../executor/model.ts";

/** Tokens in a block. */
export const BLOCK_TOKENS = 32;
/** A hit of so many tokens is always worth a prefill run of its own. */
const WORTHWHILE_TOKENS = 64;

/** Whom a prefix belongs to. */
export interface PrefixScope {
  readonly tenant: string;
  /** Digest of the core, undefined for the base. */
  readonly core: string | undefined;
  /** Digest of the lane's factors, undefined for the base's own lane. */
  readonly lane: string | undefined;
}

/**
 * Whether a hit is taken: with tokens before it a row must be prefilled alone, so a hit has to save
 * more than its place in a batch of first prompts. 64 tokens, or half of the prompt, do.
 */
export function worthTaking(hit: number, tokens: number): boolean {
  return hit >= WORTHWHILE_TOKENS || (hit > 0 && 2 * hit >= tokens);
}

/** The keys of one sequence's blocks, hashed once each as its tokens grow. */
export class PrefixChain {
  readonly #keys: string[];

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
 * Saved blocks in the order in which they may go. Touching a chain moves it to the end leaf first,
 * so a block always stands before its parent and the first in line is always a leaf.
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

  /** Changes whenever an earlier count of present blocks may no longer hold. */
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

  /** Takes a block in and owns it; releases it where it is there already or its parent is not. */
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
