/**
 * Memory of keys and values: the budget in bytes, and the traffic between rows and the prefix
 * cache. Three things count in the budget: what rows have reserved; spare pages, which rows touched
 * before and nobody has reserved now (they stay because the next row in the slot would have the
 * system bring them again); and cached prefixes. Rows come first: room for them is made by giving
 * up spare pages, then cached prefixes.
 */
import { tokensWithin } from "../executor/kv_cache.ts";
import { BLOCK_TOKENS, PrefixCache, worthTaking } from "./prefix_cache.ts";
import type { Lane, Sequence } from "./sequence.ts";

export interface KvMemoryOptions {
  /** Bytes for rows, spare pages and cached prefixes together. */
  readonly total: number;
  /** Bytes of these that cached prefixes may take; 0 switches the cache off. */
  readonly cacheLimit: number;
  /** All lanes with a model, as they are now. */
  readonly lanes: () => readonly Lane[];
}

export class KvMemory {
  readonly total: number;
  readonly cacheLimit: number;
  readonly cache = new PrefixCache();
  readonly #lanes: () => readonly Lane[];
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
function spareBytes({ model, rows }: Lane, slot: number): number {
  return Math.max(0, model.residentBytes(slot) - (rows[slot]?.reserved ?? 0));
}

/** Gives spare pages of a slot back, if possible `wanted` bytes; returns how many. */
function trimSpare(lane: Lane, slot: number, wanted: number): number {
  const { model } = lane;
  const spare = spareBytes(lane, slot);
  if (spare === 0) return 0;
  const kept = model.residentBytes(slot) - Math.min(spare, wanted);
  model.trim(slot, tokensWithin(kept, model.kvBytesPerToken));
  return spare - spareBytes(lane, slot);
}

// ---- between rows and the prefix cache ----

/** Tokens of a sequence's cached prefix; 0 where none is worth taking. */
export function prefixHit({ cache }: KvMemory, sequence: Sequence): number {
  if (cache.size === 0) return 0;
  return sequence.chain.hit(cache.generation, sequence.length, () => {
    const hit = BLOCK_TOKENS * presentBlocks(cache, sequence);
    return worthTaking(hit, sequence.length) ? hit : 0;
  });
}

/** Marks a sequence's cached blocks as used, so that others go when room for its row is made. */
export function touchPrefix({ cache }: KvMemory, sequence: Sequence): void {
  const tokens = sequence.tokens(0, sequence.length);
  cache.touch(sequence.chain, tokens, presentBlocks(cache, sequence));
}

/** Copies the cached prefix, as much of it as is left, into the sequence's row. */
export function loadPrefix({ cache }: KvMemory, sequence: Sequence, slot: number): void {
  const blocks = presentBlocks(cache, sequence);
  const tokens = sequence.tokens(0, sequence.length);
  for (let index = 0; index < blocks; index++) {
    const block = cache.block(sequence.chain, tokens, index);
    sequence.lane.model.load(slot, index * BLOCK_TOKENS, block);
  }
  sequence.computed = blocks * BLOCK_TOKENS;
  sequence.chain.savedBlocks = blocks;
}

/** Saves at most `most` computed blocks of these rows that are not in the cache. */
export function savePrefixes(
  memory: KvMemory,
  sequences: readonly Sequence[],
  most: number,
): void {
  if (memory.cacheLimit === 0) return;
  let left = most;
  for (const sequence of sequences) {
    if (left <= 0) return;
    left -= saveRow(memory, sequence, left);
  }
}

/** Blocks saved, as far as memory and `most` allow. */
function saveRow(memory: KvMemory, sequence: Sequence, most: number): number {
  const { cache } = memory;
  const { slot, lane, chain } = sequence;
  const end = Math.floor(sequence.computed / BLOCK_TOKENS);
  if (slot === undefined || chain.savedBlocks >= end) return 0;
  const tokens = sequence.tokens(0, sequence.length);
  let saved = 0;
  for (let index = chain.savedBlocks; index < end && saved < most; index++) {
    if (!cache.has(chain.key(index, tokens))) {
      if (index > 0 && !cache.has(chain.parent(index, tokens))) return saved;
      if (!memory.admitBlock(BLOCK_TOKENS * lane.model.kvBytesPerToken)) return saved;
      const start = index * BLOCK_TOKENS;
      const block = lane.model.save(slot, start, start + BLOCK_TOKENS);
      cache.insert(chain, tokens, index, block);
      saved++;
    }
    chain.savedBlocks = index + 1;
  }
  return saved;
}

function presentBlocks(cache: PrefixCache, sequence: Sequence): number {
  const tokens = sequence.tokens(0, sequence.length);
  return cache.present(sequence.chain, tokens, sequence.usableBlocks);
}
