/**
 * Memory of keys and values: the budget in bytes, and the prefixes that are cached within it. Three
 * things count in the budget: what rows have reserved; spare pages, which rows touched before and
 * nobody has reserved now (they stay because the next row in the slot would have the system bring
 * them again); and cached prefixes. Rows come first: room for them is made by giving up spare pages,
 * then cached prefixes.
 */
import { createHash } from "node:crypto";
import { tokensWithin } from "../executor/kv_cache.ts";
import type { BatchModel, KvBlock } from "../executor/model.ts";

export interface KvMemoryOptions {
  /** Bytes for rows, spare pages and cached prefixes together. */
  readonly total: number;
  /** Bytes of these that cached prefixes may take; 0 switches the cache off. */
  readonly cacheLimit: number;
  /** All lanes with a model, as they are now. */
  readonly lanes: () => readonly KvLane[];
}

/** A lane's slots: what each has in memory, and what the row in it has reserved of that. */
export interface KvLane {
  readonly model: BatchModel;
  readonly rows: readonly { readonly reserved: number }[];
}

export class KvMemory {
  readonly total: number;
  readonly cacheLimit: number;
  readonly cache = new PrefixCache();
  readonly #lanes: () => readonly KvLane[];
  #reserved = 0;

  constructor({ total, cacheLimit, lanes }: KvMemoryOptions) {
    this.total = total;
    this.cacheLimit = Math.min(cacheLimit, total);
    this.#lanes = lanes;
  }

  /** Bytes that rows have reserved. */
  get reserved(): number {
    return this.#reserved;
  }

  /** Bytes of spare pages, in all lanes. */
  get spare(): number {
    let bytes = 0;
    for (const lane of this.#lanes()) {
      for (let slot = 0; slot < lane.model.maxBatch; slot++) bytes += spareBytes(lane, slot);
    }
    return bytes;
  }

  /** Bytes that rows may still reserve; spare pages and cached prefixes count as free. */
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
    this.#shrinkSpare(this.free - this.cache.bytes);
    this.cache.shrinkTo(this.free);
  }

  /** Makes room for one more cached block; false where rows leave none. */
  admitBlock(bytes: number): boolean {
    const limit = Math.min(this.cacheLimit, this.free);
    if (bytes > limit) return false;
    this.cache.shrinkTo(limit - bytes);
    this.#shrinkSpare(this.free - this.cache.bytes - bytes);
    return true;
  }

  /**
   * Gives spare pages back to the system until at most `bytes` are left: those of lanes without
   * rows first, and of each lane those of the last slots, which are used again last.
   */
  #shrinkSpare(bytes: number): void {
    let excess = this.spare - Math.max(0, bytes);
    if (excess <= 0) return;
    const lanes = this.#lanes();
    const idleFirst = [
      ...lanes.filter(({ rows }) => rows.length === 0),
      ...lanes.filter(({ rows }) => rows.length > 0),
    ];
    for (const lane of idleFirst) {
      for (let slot = lane.model.maxBatch - 1; slot >= 0 && excess > 0; slot--) {
        excess -= trimSpare(lane, slot, excess);
      }
    }
  }
}

/** Bytes of a slot in memory that its row, if it has one, has not reserved. */
function spareBytes({ model, rows }: KvLane, slot: number): number {
  return Math.max(0, model.residentBytes(slot) - (rows[slot]?.reserved ?? 0));
}

/** Gives spare pages of a slot back, if possible `wanted` bytes; returns how many. */
function trimSpare(lane: KvLane, slot: number, wanted: number): number {
  const { model } = lane;
  const spare = spareBytes(lane, slot);
  if (spare === 0) return 0;
  const kept = model.residentBytes(slot) - Math.min(spare, wanted);
  model.trim(slot, tokensWithin(kept, model.kvBytesPerToken));
  return spare - spareBytes(lane, slot);
}

// ---- cached prefixes ----

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

/**
 * One sequence's blocks: their keys, each hashed once, and what is known of them in the cache. A
 * block's key is SHA-256 over its parent's key and its tokens; the chain's root is SHA-256 over
 * tenant, core and lane, so no tenant finds another's blocks, and no new version of a core those of
 * the old one.
 */
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
 * Saved keys and values of blocks, the longest unused first. Touching a chain moves its blocks to the end, the last
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
