/**
 * The budget of keys and values, in bytes, and the three things that count in it: what rows have
 * reserved; spare pages, which rows touched before and nobody has reserved now (they stay because
 * the next row in the slot would have the system bring them again); and cached prefixes. Rows come
 * first: room for them is made by giving up spare pages, then cached prefixes.
 */
import { tokensWithin } from "../../executor/kv_cache.ts";
import type { Lane } from "../sequence.ts";
import { PrefixCache } from "./prefix_cache.ts";

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
