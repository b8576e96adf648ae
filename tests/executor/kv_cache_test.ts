/** The KV cache's rows: moved, saved, loaded and freed, without touching their neighbours. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { KvCache, type KvShape } from "../../src/executor/kv_cache.ts";
import type { Device } from "../../src/runtime/device.ts";
import { DEVICE } from "../graph/device.ts";

const SHAPE: KvShape = { layers: 3, slots: 4, kvHeads: 2, capacity: 40, headDim: 8 };

/** All arrays of the cache, keys and values by turns. */
function arraysOf(cache: KvCache, { slots }: KvShape): Float32Array[] {
  return cache.views(0, slots).flatMap(({ keys, values }) =>
    [keys, values].map(({ data }) => {
      if (data instanceof Float32Array) return data;
      throw new TypeError("keys and values are in host memory");
    })
  );
}

/** A number that names its place. */
function mark(array: number, slot: number, head: number, position: number, d: number): number {
  return (((array * 10 + slot) * 10 + head) * 1000 + position) * 10 + d;
}

function fill(cache: KvCache, shape: KvShape): void {
  arraysOf(cache, shape).forEach((data, array) => {
    visit(shape, (index, slot, head, position, d) => {
      data[index] = mark(array, slot, head, position, d);
    });
  });
  for (let slot = 0; slot < shape.slots; slot++) cache.touch(slot, shape.capacity);
}

type Visit = (index: number, slot: number, head: number, position: number, d: number) => void;

function visit({ slots, kvHeads, capacity, headDim }: KvShape, each: Visit): void {
  let index = 0;
  for (let slot = 0; slot < slots; slot++) {
    for (let head = 0; head < kvHeads; head++) {
      for (let position = 0; position < capacity; position++) {
        for (let d = 0; d < headDim; d++) each(index++, slot, head, position, d);
      }
    }
  }
}

/** Checks every number: `from` says which slot and position one came from; undefined = any number. */
function assertRows(
  cache: KvCache,
  shape: KvShape,
  from: (slot: number, position: number) => readonly [number, number] | undefined,
): void {
  arraysOf(cache, shape).forEach((data, array) => {
    visit(shape, (index, slot, head, position, d) => {
      const source = from(slot, position);
      if (source === undefined) return;
      const wanted = mark(array, source[0], head, source[1], d);
      if (data[index] !== wanted) {
        assertEquals(data[index], wanted, `array ${array}, slot ${slot}, position ${position}`);
      }
    });
  });
}

function filled(device: Device, shape = SHAPE): KvCache {
  const cache = new KvCache(device, shape);
  fill(cache, shape);
  return cache;
}

Deno.test("a token's bytes are keys and values of all layers and heads in float32", () => {
  assertEquals(KvCache.bytesPerToken({ layers: 30, kvHeads: 3, headDim: 64 }), 46_080);
});

Deno.test("views show their slots' memory and are made once", () => {
  const device = DEVICE;
  const cache = filled(device);
  const views = cache.views(1, 2);
  assert(views === cache.views(1, 2));
  assertEquals(views.length, 3);
  assertEquals(views[2].values.shape, [2, 2, 40, 8]);
  assertEquals(views[2].values.data?.[0], mark(5, 1, 0, 0, 0));
  cache.release();
});

Deno.test("a move copies the row's first tokens and nothing else", () => {
  const device = DEVICE;
  const cache = filled(device);
  cache.move(3, 1, 7);
  assertRows(cache, SHAPE, (slot, position) => {
    if (slot !== 1) return [slot, position];
    return position < 7 ? [3, position] : undefined;
  });
  cache.release();
});

Deno.test("a saved block comes back at any slot and place, and only there", () => {
  const device = DEVICE;
  const cache = filled(device);
  const block = cache.save(2, 5, 12);
  assertEquals(block.length, 7);
  assertEquals(block.byteLength, 7 * KvCache.bytesPerToken(SHAPE));
  cache.load(0, 20, block);
  assertRows(cache, SHAPE, (slot, position) => {
    const loaded = slot === 0 && position >= 20 && position < 27;
    return loaded ? [2, position - 15] : [slot, position];
  });
  // What was saved does not follow the row.
  fill(cache, SHAPE);
  arraysOf(cache, SHAPE).forEach((data) => data.fill(-1));
  cache.load(2, 5, block);
  assertRows(cache, SHAPE, (slot, position) => {
    return slot === 2 && position >= 5 && position < 12 ? [2, position] : undefined;
  });
  block.release();
  cache.release();
});

Deno.test("freeing keeps the tokens asked for and all other rows", () => {
  const device = DEVICE;
  // Rows of several pages, so that there is something to give back.
  const shape = { layers: 2, slots: 3, kvHeads: 2, capacity: 600, headDim: 16 };
  const cache = filled(device, shape);
  cache.trim(1, 10);
  assertRows(cache, shape, (slot, position) => {
    return slot === 1 && position >= 10 ? undefined : [slot, position];
  });
  cache.trim(1, 10);
  cache.trim(0, shape.capacity);
  assertRows(cache, shape, (slot, position) => {
    return slot === 1 && position >= 10 ? undefined : [slot, position];
  });
  cache.release();
});

Deno.test("a block of another kind of cache is refused", () => {
  const device = DEVICE;
  const cache = filled(device);
  const foreign = { length: 1, byteLength: 4, release() {} };
  assertThrows(() => cache.load(0, 0, foreign), TypeError, "another kind of cache");
  cache.release();
});
