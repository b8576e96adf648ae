/**
 * Keys and values in a device's own memory, `[slots, KV, capacity, D]` twice a layer. Such memory has
 * views from its beginning alone: decode steps take the first slots, and a prompt is computed in a row
 * apart, the staging row, that small graphs copy in and out. What is asked for is done in its order;
 * a step waits for it (`settled`).
 */
import type { Binding, Device, Session, Tensor } from "../../runtime/device.ts";
import { bytesPerFloat } from "../../util/floats.ts";
import type { BlockPool, BlockRoom } from "../block_pool.ts";
import { KvCache, type KvShape, type KvStore, type KvViews } from "../kv_cache.ts";
import type { KvBlock } from "../model.ts";
import { SlotViews } from "../views.ts";
import { type RowGraph, rowGraph } from "./row_graphs.ts";

/** A saved part of a row in host memory, there once what was asked for before is done. */
class StagedBlock implements KvBlock {
  readonly length: number;
  readonly byteLength: number;
  readonly room: BlockRoom;
  /** Settles when nothing reads or writes its place any more. */
  #unused: Promise<unknown>;
  #released = false;

  constructor(length: number, room: BlockRoom, filled: Promise<void>) {
    this.length = length;
    this.byteLength = room.data.byteLength;
    this.room = room;
    this.#unused = Promise.allSettled([filled]);
  }

  /** Keeps the place until `use` is done. */
  keepFor(use: Promise<void>): void {
    this.#unused = Promise.allSettled([this.#unused, use]);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#unused.then(() => this.room.release());
  }
}

export class StagedKv implements KvStore {
  readonly #device: Device;
  readonly #shape: KvShape;
  readonly #blocks: BlockPool;
  readonly #made: DisposableStack;
  readonly #parts: Parts;
  readonly #views: SlotViews<KvViews>;
  readonly #touched: number[];
  #last: Promise<void> = Promise.resolve();

  private constructor(
    device: Device,
    shape: KvShape,
    blocks: BlockPool,
    parts: Parts,
    made: DisposableStack,
  ) {
    this.#device = device;
    this.#shape = shape;
    this.#blocks = blocks;
    this.#made = made;
    this.#parts = parts;
    this.#touched = new Array<number>(shape.slots).fill(0);
    this.#views = new SlotViews((first, count, made) => this.#viewsOver(first, count, made));
  }

  /** Bytes that it takes: those of all slots and of the staging row. */
  static bytesOf(shape: KvShape): number {
    return (shape.slots + 1) * shape.capacity * KvCache.bytesPerToken(shape);
  }

  static async open(device: Device, shape: KvShape, blocks: BlockPool): Promise<StagedKv> {
    using made = new DisposableStack();
    const tensors = await zeros(device, shape, shape.slots, made);
    const staging = await zeros(device, shape, 1, made);
    const slot = new BigInt64Array(1);
    const index = made.use(device.tensor("int64", [1, 1], slot));
    const flat = made.use(device.tensor("int64", [1], slot));
    const named = (name: string, all: readonly Tensor[]) =>
      Object.fromEntries(all.map((tensor, i) => [`${name}.${i}`, tensor]));
    const [caches, rows] = [named("cache", tensors), named("row", staging)];
    const session = async (kind: RowGraph) => made.use(await device.session(rowGraph(kind, shape)));
    const [taking, placing] = [await session("take"), await session("place")];
    const [saving, loading] = [await session("save"), await session("load")];
    const take = made.use(taking.bind({ ...caches, slot: flat }, rows));
    const written = named("written", tensors);
    const place = made.use(placing.bind({ ...caches, ...rows, slot: index }, written));
    return new StagedKv(
      ...[device, shape, blocks] as const,
      { tensors, caches, written, staging, slot, take, place, saving, loading },
      made.move(),
    );
  }

  /** Each layer's keys and values of the staging row. */
  get staging(): readonly KvViews[] {
    return pairs(this.#parts.staging);
  }

  /** @throws {RangeError} where `first` is not 0 */
  views(first: number, count: number): readonly KvViews[] {
    return this.#views.of(first, count);
  }

  touched(slot: number): number {
    return this.#touched[slot];
  }

  touch(slot: number, length: number): void {
    if (length > this.#touched[slot]) this.#touched[slot] = length;
  }

  /** Resolves when all that was asked for is done; rejects where some of it could not be. */
  settled(): Promise<void> {
    return this.#last;
  }

  /** Makes the staging row a copy of a slot. */
  take(slot: number): void {
    this.#run(this.#parts.take, slot);
  }

  /** Makes a slot a copy of the staging row. */
  place(slot: number): void {
    this.#run(this.#parts.place, slot);
  }

  move(from: number, to: number, length: number): void {
    this.touch(to, length);
    this.take(from);
    this.place(to);
  }

  /** The memory stays: what it held is written over by the next row. */
  trim(slot: number, keep: number): void {
    this.#touched[slot] = Math.min(this.#touched[slot], keep);
  }

  save(slot: number, start: number, end: number): KvBlock {
    const bytes = (end - start) * KvCache.bytesPerToken(this.#shape);
    const room = this.#blocks.take(bytes / Float32Array.BYTES_PER_ELEMENT);
    const filled = this.#then(async () => {
      using made = new DisposableStack();
      const [from, to] = [[slot, start], [slot + 1, end]].map((values) =>
        made.use(this.#device.tensor("int64", [2], BigInt64Array.from(values, BigInt)))
      );
      const block = made.use(this.#blockIn(room, end - start));
      const { saving, caches } = this.#parts;
      await made.use(saving.bind({ ...caches, from, to }, { block })).run();
    });
    return new StagedBlock(end - start, room, filled);
  }

  /** @throws {TypeError} where the block was saved by another kind of cache. */
  load(slot: number, start: number, block: KvBlock): void {
    if (!(block instanceof StagedBlock)) {
      throw new TypeError("internal: the block was saved by another kind of cache");
    }
    const { kvHeads } = this.#shape;
    this.touch(slot, start + block.length);
    block.keepFor(this.#then(async () => {
      using made = new DisposableStack();
      const places = new BigInt64Array(kvHeads * block.length * 3);
      for (let i = 0; i < kvHeads * block.length; i++) {
        const [head, position] = [Math.floor(i / block.length), start + i % block.length];
        places.set([slot, head, position].map(BigInt), 3 * i);
      }
      const { loading, caches, written } = this.#parts;
      const given = {
        block: made.use(this.#blockIn(block.room, block.length)),
        places: made.use(this.#device.tensor("int64", [kvHeads * block.length, 3], places)),
      };
      await made.use(loading.bind({ ...caches, ...given }, written)).run();
    }));
  }

  release(): void {
    this.#views.release();
    // what is under way still runs on them
    const free = () => this.#made.dispose();
    this.#last.then(free, free);
  }

  /** @throws {Error} `internal: …` where a slot has more than there is, or too many views are kept. */
  checkIntegrity(): void {
    this.#views.checkIntegrity();
    const { capacity } = this.#shape;
    const slot = this.#touched.findIndex((tokens) => tokens > capacity);
    if (slot === -1) return;
    throw new Error(`internal: slot ${slot} has ${this.#touched[slot]} of ${capacity} tokens`);
  }

  #run(binding: Binding, slot: number): void {
    this.#then(() => {
      this.#parts.slot[0] = BigInt(slot);
      return binding.run();
    });
  }

  #then(act: () => Promise<void>): Promise<void> {
    const done = this.#last.then(act);
    this.#last = done;
    // told by `settled`
    done.catch(() => {});
    return done;
  }

  /** A block's memory as a tensor [2 × layers, KV, length, D]. */
  #blockIn({ data }: BlockRoom, length: number): Tensor {
    const { layers, kvHeads, headDim, dtype = "float32" } = this.#shape;
    const shape = [2 * layers, kvHeads, length, headDim];
    if (dtype === "float32") return this.#device.tensor(dtype, shape, data);
    const { buffer, byteOffset, byteLength } = data;
    const halves = new Uint16Array(buffer, byteOffset, byteLength / bytesPerFloat(dtype));
    return this.#device.tensor(dtype, shape, halves);
  }

  #viewsOver(first: number, count: number, made: DisposableStack): readonly KvViews[] {
    const { kvHeads, capacity, headDim } = this.#shape;
    const offset = first * kvHeads * capacity * headDim;
    const view = (tensor: Tensor) =>
      made.use(this.#device.view(tensor, offset, [count, kvHeads, capacity, headDim]));
    return pairs(this.#parts.tensors.map(view));
  }
}

interface Parts {
  readonly tensors: readonly Tensor[];
  /** The same as inputs of the graphs, and as what they write in place. */
  readonly caches: Readonly<Record<string, Tensor>>;
  readonly written: Readonly<Record<string, Tensor>>;
  readonly staging: readonly Tensor[];
  /** Which slot `take` and `place` mean. */
  readonly slot: BigInt64Array;
  readonly take: Binding;
  readonly place: Binding;
  readonly saving: Session;
  readonly loading: Session;
}

function pairs(tensors: readonly Tensor[]): readonly KvViews[] {
  return Array.from({ length: tensors.length / 2 }, (_, layer) => ({
    keys: tensors[layer * 2],
    values: tensors[layer * 2 + 1],
  }));
}

/** Memory that holds no NaN, which masks would let through. */
async function zeros(
  device: Device,
  { layers, kvHeads, capacity, headDim, dtype = "float32" }: KvShape,
  slots: number,
  made: DisposableStack,
): Promise<Tensor[]> {
  using nothing = device.tensor(dtype, [slots, kvHeads, capacity, headDim]);
  const tensors: Tensor[] = [];
  for (let i = 0; i < layers * 2; i++) {
    tensors.push(made.use(await device.allocate(dtype, nothing.shape)));
  }
  await device.copy(tensors.map((to) => ({ from: nothing, to })));
  return tensors;
}
