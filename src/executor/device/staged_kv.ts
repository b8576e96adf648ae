/**
 * Keys and values in a device's own memory, `[slots, KV, capacity, D]` twice a layer. Such memory has
 * views from its beginning alone: decode steps take the first slots, and a prompt is computed in a row
 * apart, the staging row, that small graphs copy in and out. What is asked for is done in its order;
 * a step waits for it (`settled`).
 */
import { OnnxWriter } from "../../graph/lowering/onnx.ts";
import type { Binding, Device, Tensor } from "../../runtime/device.ts";
import { bytesPerFloat } from "../../util/floats.ts";
import type { BlockPool, BlockRoom } from "../block_pool.ts";
import { KvCache, type KvShape, type KvStore, type KvViews } from "../kv_cache.ts";
import type { KvBlock } from "../model.ts";
import { SlotViews } from "../views.ts";

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

/** What a device's floats are in host memory. */
type Floats = Float32Array | Uint16Array;

export class StagedKv implements KvStore {
  readonly #device: Device;
  readonly #shape: KvShape;
  readonly #blocks: BlockPool;
  readonly #made: DisposableStack;
  readonly #tensors: readonly Tensor[];
  readonly #staging: readonly Tensor[];
  readonly #slot: BigInt64Array;
  readonly #take: Binding;
  readonly #place: Binding;
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
    this.#tensors = parts.tensors;
    this.#staging = parts.staging;
    this.#slot = parts.slot;
    this.#take = parts.take;
    this.#place = parts.place;
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
    const taking = made.use(await device.session(rowGraph("take", shape)));
    const placing = made.use(await device.session(rowGraph("place", shape)));
    const take = made.use(taking.bind({ ...caches, slot: flat }, rows));
    const written = named("written", tensors);
    const place = made.use(placing.bind({ ...caches, ...rows, slot: index }, written));
    return new StagedKv(
      ...[device, shape, blocks] as const,
      { tensors, staging, slot, take, place },
      made.move(),
    );
  }

  /** Each layer's keys and values of the staging row. */
  get staging(): readonly KvViews[] {
    return pairs(this.#staging);
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
    this.#run(this.#take, slot);
  }

  /** Makes a slot a copy of the staging row. */
  place(slot: number): void {
    this.#run(this.#place, slot);
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
    const saved = this.#floatsIn(room);
    this.take(slot);
    const filled = this.#then(async () => {
      let at = 0;
      for (const row of this.#staging) {
        const data = await this.#device.download(row) as Floats;
        for (const [from, to] of this.#parts(start, end)) {
          saved.set(data.subarray(from, to), at);
          at += to - from;
        }
      }
    });
    return new StagedBlock(end - start, room, filled);
  }

  /** @throws {TypeError} where the block was saved by another kind of cache. */
  load(slot: number, start: number, block: KvBlock): void {
    if (!(block instanceof StagedBlock)) {
      throw new TypeError("internal: the block was saved by another kind of cache");
    }
    const end = start + block.length;
    this.touch(slot, end);
    this.take(slot);
    block.keepFor(this.#then(async () => {
      let at = 0;
      for (const row of this.#staging) {
        const data = await this.#device.download(row) as Floats;
        const saved = this.#floatsIn(block.room);
        for (const [from, to] of this.#parts(start, end)) {
          data.set(saved.subarray(at, at + to - from), from);
          at += to - from;
        }
        await this.#device.upload(row, data);
      }
    }));
    this.place(slot);
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
      this.#slot[0] = BigInt(slot);
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

  /** Where positions start … end - 1 of each head lie in a row. */
  #parts(start: number, end: number): readonly (readonly [number, number])[] {
    const { kvHeads, capacity, headDim } = this.#shape;
    return Array.from({ length: kvHeads }, (_, head) => {
      const first = head * capacity;
      return [(first + start) * headDim, (first + end) * headDim] as const;
    });
  }

  /** A room's memory in the type that the device holds. */
  #floatsIn({ data }: BlockRoom): Floats {
    const { dtype = "float32" } = this.#shape;
    const { buffer, byteOffset, byteLength } = data;
    return dtype === "float32"
      ? data
      : new Uint16Array(buffer, byteOffset, byteLength / bytesPerFloat(dtype));
  }

  #viewsOver(first: number, count: number, made: DisposableStack): readonly KvViews[] {
    const { kvHeads, capacity, headDim } = this.#shape;
    const offset = first * kvHeads * capacity * headDim;
    const view = (tensor: Tensor) =>
      made.use(this.#device.view(tensor, offset, [count, kvHeads, capacity, headDim]));
    return pairs(this.#tensors.map(view));
  }
}

interface Parts {
  readonly tensors: readonly Tensor[];
  readonly staging: readonly Tensor[];
  /** Which slot `take` and `place` mean. */
  readonly slot: BigInt64Array;
  readonly take: Binding;
  readonly place: Binding;
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

/** "take": row ← cache[slot]. "place": cache[slot] ← row, in place. Of each layer's keys and values. */
function rowGraph(
  kind: "take" | "place",
  { layers, kvHeads, capacity, headDim, dtype = "float32" }: KvShape,
) {
  const writer = new OnnxWriter();
  const row = [kvHeads, capacity, headDim];
  const slot = writer.input("slot", "int64", kind === "take" ? [1] : [1, 1]);
  for (let i = 0; i < layers * 2; i++) {
    const cache = writer.input(`cache.${i}`, dtype, ["slots", ...row]);
    if (kind === "take") {
      writer.node("Gather", [cache, slot], `row.${i}`);
      writer.output(`row.${i}`, dtype, [1, ...row]);
    } else {
      const from = writer.input(`row.${i}`, dtype, [1, ...row]);
      writer.node("ScatterND", [cache, slot, from], `written.${i}`);
      writer.output(`written.${i}`, dtype, ["slots", ...row]);
    }
  }
  return writer.finish(kind);
}
