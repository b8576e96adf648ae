/**
 * Keys and values of a lane's slots: two tensors for each layer, `[slots, KV, capacity, D]`,
 * reserved at full size; pages come into memory as rows grow. A step copies nothing; moving, saving
 * and loading rows does.
 */
import type { Device, Tensor } from "../runtime/device.ts";
import { bytesPerFloat, type FloatType } from "../util/floats.ts";
import { BlockPool, type BlockRoom } from "./block_pool.ts";
import type { KvBlock } from "./model.ts";
import { SlotViews } from "./views.ts";

/** Tokens by which a row's counted memory grows: memory comes in pages, not in tokens. */
export const GRANULE_TOKENS = 16;

/** Bytes counted for a row of `tokens` tokens. */
export function kvBytes(tokens: number, bytesPerToken: number): number {
  return Math.ceil(tokens / GRANULE_TOKENS) * GRANULE_TOKENS * bytesPerToken;
}

/** Tokens of the longest row that fits into `bytes` alone. */
export function tokensWithin(bytes: number, bytesPerToken: number): number {
  return Math.floor(bytes / (GRANULE_TOKENS * bytesPerToken)) * GRANULE_TOKENS;
}

export interface KvShape {
  readonly layers: number;
  readonly slots: number;
  readonly kvHeads: number;
  readonly capacity: number;
  readonly headDim: number;
  /** What they are held in; default: float32, as in host memory always. */
  readonly dtype?: FloatType;
}

/** One layer's keys and values of some slots. */
export interface KvViews {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** What holds the keys and values of a lane's slots, wherever they are. */
export type KvStore = Pick<
  KvCache,
  | "views"
  | "touched"
  | "touch"
  | "move"
  | "trim"
  | "save"
  | "load"
  | "checkIntegrity"
  | "release"
>;

/** A saved part of a row: `[layers × 2, KV, length, D]`. */
class HostBlock implements KvBlock {
  readonly length: number;
  #room: BlockRoom | undefined;

  constructor(length: number, room: BlockRoom) {
    this.length = length;
    this.byteLength = room.data.byteLength;
    this.#room = room;
  }

  readonly byteLength: number;

  get data(): Float32Array {
    if (this.#room === undefined) throw new Error("internal: a released block is used");
    return this.#room.data;
  }

  release(): void {
    this.#room?.release();
    this.#room = undefined;
  }
}

export class KvCache {
  readonly #device: Device;
  readonly #shape: KvShape;
  /** Layer by layer: the keys, then the values. */
  readonly #tensors: readonly Tensor[];
  readonly #arrays: readonly Float32Array[];
  readonly #views: SlotViews<KvViews>;
  readonly #blocks: BlockPool;
  /** Tokens of each slot that may have touched memory. */
  readonly #touched: number[];

  /** `blocks` holds what is saved; caches of the same shape may share it. */
  constructor(device: Device, shape: KvShape, blocks = new BlockPool(device)) {
    const { layers, slots, kvHeads, capacity, headDim } = shape;
    this.#device = device;
    this.#shape = shape;
    this.#blocks = blocks;
    this.#views = new SlotViews((...range) => this.#viewsOver(...range));
    this.#touched = new Array<number>(slots).fill(0);
    using made = new DisposableStack();
    this.#tensors = Array.from(
      { length: layers * 2 },
      () => made.use(device.tensor("float32", [slots, kvHeads, capacity, headDim])),
    );
    for (const tensor of this.#tensors) device.touchSparsely(tensor);
    this.#arrays = this.#tensors.map(({ data }) => {
      if (data instanceof Float32Array) return data;
      throw new TypeError("internal: keys and values are not in host memory");
    });
    made.move();
  }

  /** Bytes that one token of one slot takes. */
  static bytesPerToken(
    { layers, kvHeads, headDim, dtype = "float32" }: Omit<KvShape, "slots" | "capacity">,
  ): number {
    return layers * 2 * kvHeads * headDim * bytesPerFloat(dtype);
  }

  /** Each layer's keys and values of slots first … first + count - 1. */
  views(first: number, count: number): readonly KvViews[] {
    return this.#views.of(first, count);
  }

  /** Tokens of a slot whose pages may be in memory. */
  touched(slot: number): number {
    return this.#touched[slot];
  }

  /** Says that a slot now holds up to `length` tokens. */
  touch(slot: number, length: number): void {
    if (length > this.#touched[slot]) this.#touched[slot] = length;
  }

  /** Copies the first `length` tokens of a slot over another's. */
  move(from: number, to: number, length: number): void {
    this.touch(to, length);
    const { kvHeads, headDim } = this.#shape;
    for (const array of this.#arrays) {
      for (let head = 0; head < kvHeads; head++) {
        const start = this.#offset(from, head, 0);
        array.copyWithin(this.#offset(to, head, 0), start, start + length * headDim);
      }
    }
  }

  /** Gives back the pages behind the first `keep` tokens of a slot. */
  trim(slot: number, keep: number): void {
    const touched = this.#touched[slot];
    if (touched <= keep) return;
    const { kvHeads, headDim } = this.#shape;
    for (const tensor of this.#tensors) {
      for (let head = 0; head < kvHeads; head++) {
        this.#device.discard(tensor, this.#offset(slot, head, keep), (touched - keep) * headDim);
      }
    }
    this.#touched[slot] = keep;
  }

  /** Copies tokens start … end - 1 of a slot out. */
  save(slot: number, start: number, end: number): KvBlock {
    const { kvHeads, headDim } = this.#shape;
    const size = (end - start) * headDim;
    const room = this.#blocks.take(this.#arrays.length * kvHeads * size);
    let at = 0;
    for (const array of this.#arrays) {
      for (let head = 0; head < kvHeads; head++) {
        const from = this.#offset(slot, head, start);
        room.data.set(array.subarray(from, from + size), at);
        at += size;
      }
    }
    return new HostBlock(end - start, room);
  }

  /**
   * Copies a saved block into a slot.
   * @throws {TypeError} where the block was saved by another kind of cache.
   */
  load(slot: number, start: number, block: KvBlock): void {
    if (!(block instanceof HostBlock)) {
      throw new TypeError("internal: the block was saved by another kind of cache");
    }
    const { kvHeads, headDim } = this.#shape;
    const size = block.length * headDim;
    this.touch(slot, start + block.length);
    let at = 0;
    for (const array of this.#arrays) {
      for (let head = 0; head < kvHeads; head++) {
        array.set(block.data.subarray(at, at + size), this.#offset(slot, head, start));
        at += size;
      }
    }
  }

  /**
   * Releases everything but saved blocks. The pages go at once; the buffers wait for the collector.
   */
  release(): void {
    this.#views.release();
    const { slots, kvHeads, capacity, headDim } = this.#shape;
    for (const tensor of this.#tensors) {
      // its garbage may be collected much later: the pages go now
      this.#device.discard(tensor, 0, slots * kvHeads * capacity * headDim);
      tensor.release();
    }
  }

  /**
   * @throws {Error} `internal: …` where a slot has more than there is, or too many views are kept.
   */
  checkIntegrity(): void {
    this.#views.checkIntegrity();
    const { capacity } = this.#shape;
    const slot = this.#touched.findIndex((tokens) => tokens > capacity);
    if (slot === -1) return;
    throw new Error(`internal: slot ${slot} has ${this.#touched[slot]} of ${capacity} tokens`);
  }

  #viewsOver(first: number, count: number, made: DisposableStack): readonly KvViews[] {
    return Array.from({ length: this.#shape.layers }, (_, layer) => ({
      keys: made.use(this.#view(layer * 2, first, count)),
      values: made.use(this.#view(layer * 2 + 1, first, count)),
    }));
  }

  #view(index: number, first: number, count: number): Tensor {
    const { kvHeads, capacity, headDim } = this.#shape;
    const shape = [count, kvHeads, capacity, headDim];
    return this.#device.view(this.#tensors[index], this.#offset(first, 0, 0), shape);
  }

  #offset(slot: number, head: number, position: number): number {
    const { kvHeads, capacity, headDim } = this.#shape;
    return ((slot * kvHeads + head) * capacity + position) * headDim;
  }
}
