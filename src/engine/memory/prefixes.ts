/**
 * Between rows and the prefix cache: how much of a sequence is cached, copying that into its row,
 * and saving what the row computed.
 */
import type { Sequence } from "../sequence.ts";
import type { KvMemory } from "./memory.ts";
import { BLOCK_TOKENS, type PrefixCache, worthTaking } from "./prefix_cache.ts";

/** Tokens of a sequence's cached prefix; 0 where none is worth taking. */
export function prefixHit({ cache }: KvMemory, sequence: Sequence): number {
  if (cache.size === 0) return 0;
  return sequence.hit(cache.generation, () => {
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
  sequence.savedBlocks = blocks;
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
  const { slot, lane } = sequence;
  const end = Math.floor(sequence.computed / BLOCK_TOKENS);
  if (slot === undefined || sequence.savedBlocks >= end) return 0;
  const { chain } = sequence;
  const tokens = sequence.tokens(0, sequence.length);
  let saved = 0;
  for (let index = sequence.savedBlocks; index < end && saved < most; index++) {
    if (!cache.has(chain.key(index, tokens))) {
      if (index > 0 && !cache.has(chain.parent(index, tokens))) return saved;
      if (!memory.admitBlock(BLOCK_TOKENS * lane.model.kvBytesPerToken)) return saved;
      const start = index * BLOCK_TOKENS;
      const block = lane.model.save(slot, start, start + BLOCK_TOKENS);
      cache.insert(chain, tokens, index, block);
      saved++;
    }
    sequence.savedBlocks = index + 1;
  }
  return saved;
}

function presentBlocks(cache: PrefixCache, sequence: Sequence): number {
  const tokens = sequence.tokens(0, sequence.length);
  return cache.present(sequence.chain, tokens, sequence.usableBlocks);
}
