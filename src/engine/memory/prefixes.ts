/**
 * What rows have to do with the prefix cache: which of a sequence's blocks are there, copying them
 * into its row, and saving what the row computed. It decides no admission; it knows no run.
 */
import type { KvMemory } from "./memory.ts";
import { BLOCK_TOKENS, worthTaking } from "./prefix_cache.ts";
import type { Sequence } from "../sequence.ts";

/** One engine's traffic between rows and cached blocks. */
export class Prefixes {
  readonly #memory: KvMemory;

  constructor(memory: KvMemory) {
    this.#memory = memory;
  }

  /** Tokens of a cached prefix worth taking, else 0. */
  hit(sequence: Sequence): number {
    if (this.#memory.cache.size === 0) return 0;
    return sequence.hit(this.#memory.cache.generation, () => {
      const hit = BLOCK_TOKENS * this.#presentBlocks(sequence);
      return worthTaking(hit, sequence.length) ? hit : 0;
    });
  }

  /** Marks its blocks as used, before room for its row is made at the cost of others. */
  touch(sequence: Sequence): void {
    const tokens = sequence.tokens(0, sequence.length);
    this.#memory.cache.touch(sequence.chain, tokens, this.#presentBlocks(sequence));
  }

  /** Copies the cached prefix, as much of it as is left, into the row. */
  load(sequence: Sequence, slot: number): void {
    const blocks = this.#presentBlocks(sequence);
    const tokens = sequence.tokens(0, sequence.length);
    for (let index = 0; index < blocks; index++) {
      const block = this.#memory.cache.block(sequence.chain, tokens, index);
      sequence.lane.model.load(slot, index * BLOCK_TOKENS, block);
    }
    sequence.computed = blocks * BLOCK_TOKENS;
    sequence.savedBlocks = blocks;
  }

  /** Saves at most `most` computed blocks of these rows that the cache has not got. */
  keep(sequences: readonly Sequence[], most: number): void {
    let left = most;
    for (const sequence of sequences) {
      if (left <= 0) return;
      left -= this.#keepRow(sequence, left);
    }
  }

  /** Blocks saved, as far as memory and `most` allow. */
  #keepRow(sequence: Sequence, most: number): number {
    const { cache, cacheLimit } = this.#memory;
    const { slot, lane, chain } = sequence;
    const end = Math.floor(sequence.computed / BLOCK_TOKENS);
    if (cacheLimit === 0 || slot === undefined) return 0;
    const tokens = sequence.tokens(0, sequence.length);
    let saved = 0;
    for (let index = sequence.savedBlocks; index < end && saved < most; index++) {
      if (!cache.has(chain.key(index, tokens))) {
        if (index > 0 && !cache.has(chain.parent(index, tokens))) return saved;
        if (!this.#memory.admitBlock(BLOCK_TOKENS * lane.model.kvBytesPerToken)) return saved;
        const start = index * BLOCK_TOKENS;
        const block = lane.model.save(slot, start, start + BLOCK_TOKENS);
        cache.insert(chain, tokens, index, block);
        saved++;
      }
      sequence.savedBlocks = index + 1;
    }
    return saved;
  }

  #presentBlocks(sequence: Sequence): number {
    const tokens = sequence.tokens(0, sequence.length);
    return this.#memory.cache.present(sequence.chain, tokens, sequence.usableBlocks);
  }
}
