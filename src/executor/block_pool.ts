/**
 * Memory for saved blocks of keys and values. It is not left to the garbage collector, which would
 * keep evicted blocks, uncounted, for an unknown time: a released block's pages go back to the
 * system at once, and its place is used again.
 */
import type { Device, Tensor } from "../runtime/device.ts";

/** Blocks in one slab. A slab is reserved whole; its pages are touched as they are used. */
const SLAB_BLOCKS = 16;

/** A place for one block's numbers. */
export interface BlockRoom {
  readonly data: Float32Array;
  /** Gives the place and its pages back. */
  release(): void;
}

export class BlockPool {
  readonly #device: Device;
  readonly #slabs: Tensor[] = [];
  /** Free places, by their number of elements. */
  readonly #free = new Map<number, BlockRoom[]>();
  #heldBytes = 0;

  constructor(device: Device) {
    this.#device = device;
  }

  /** Bytes of places that are taken. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  take(elements: number): BlockRoom {
    const free = this.#free.get(elements) ?? [];
    this.#free.set(elements, free);
    const room = free.pop() ?? this.#grow(elements, free);
    this.#heldBytes += room.data.byteLength;
    return room;
  }

  release(): void {
    for (const slab of this.#slabs) slab.release();
    this.#slabs.length = 0;
    this.#free.clear();
  }

  /** Reserves a slab: returns one of its places and adds the others to `free`. */
  #grow(elements: number, free: BlockRoom[]): BlockRoom {
    const slab = this.#device.tensor("float32", [SLAB_BLOCKS, elements]);
    this.#slabs.push(slab);
    const rooms = Array.from(
      { length: SLAB_BLOCKS },
      (_, i) => this.#room(slab, i, elements, free),
    );
    const [first, ...rest] = rooms;
    free.push(...rest.reverse());
    return first;
  }

  #room(slab: Tensor, index: number, elements: number, free: BlockRoom[]): BlockRoom {
    const { data } = slab;
    if (!(data instanceof Float32Array)) throw new TypeError("internal: blocks not in host memory");
    const start = index * elements;
    const room: BlockRoom = {
      data: data.subarray(start, start + elements),
      release: () => {
        this.#heldBytes -= room.data.byteLength;
        this.#device.discard(slab, start, elements);
        free.push(room);
      },
    };
    return room;
  }
}
