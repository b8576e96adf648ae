/** One bound for all keys and values: rows, pages that left rows keep, cached prefixes. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { BlockPool } from "../../src/executor/block_pool.ts";
import { KvCache } from "../../src/executor/kv_cache.ts";
import { SlotViews } from "../../src/executor/views.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { harness, read, request } from "./harness.ts";

const MODEL = { maxBatch: 8, maxContext: 128, kvBytesPerToken: 10 };

/** Bytes of everything that counts. */
function held(own: ReturnType<typeof harness>): number {
  const { kvBytes, kvBytesSpare, kvBytesCached } = own.engine.stats();
  return kvBytes + kvBytesSpare + kvBytesCached;
}

function ask(own: ReturnType<typeof harness>, k: number) {
  return read(own.engine.generate(request({ prompt: `${k}`.repeat(40), maxTokens: 20 })));
}

Deno.test("pages that rows leave behind are counted", async () => {
  await using own = harness({ model: MODEL, prefixMemory: 0 });
  await Promise.all([1, 2, 3].map((k) => ask(own, k)));
  const { kvBytes, kvBytesSpare } = own.engine.stats();
  assertEquals(kvBytes, 0);
  assertEquals(kvBytesSpare, 3 * 48 * 10, "48 tokens of each slot stay");
});

Deno.test("kept pages give way to rows and prefixes, so that the bound holds after every run", async () => {
  const kvMemory = 3000;
  let most = 0;
  const own = harness({
    model: MODEL,
    kvMemory,
    listener: { step: () => void (most = Math.max(most, held(own))) },
  });
  await using _own = own;
  for (let round = 0; round < 6; round++) {
    await Promise.all([1, 2, 3, 4, 5, 6].map((k) => ask(own, 10 * round + k)));
  }
  assert(most <= kvMemory, `${most} bytes were held`);
  assert(most > kvMemory / 2, "the room is used");
});

Deno.test("the padding of a batch counts while the batch is computed", async () => {
  const kvMemory = 1600;
  let most = 0;
  const own = harness({
    model: MODEL,
    kvMemory,
    prefixMemory: 0,
    listener: { step: () => void (most = Math.max(most, held(own))) },
  });
  await using _own = own;
  const prompts = [33, 33, 17, 33, 17];
  await Promise.all(prompts.map((length) => {
    const prompt = new Array<number>(length).fill(65);
    return read(own.engine.generate(request({ prompt, maxTokens: 3, ignoreEos: true })));
  }));
  assert(most <= kvMemory, `${most} bytes were held`);
});

Deno.test("a place for a block is used again, and gives its pages back meanwhile", () => {
  using device = openDevice("cpu");
  const pool = new BlockPool(device);
  const elements = 2 ** 16;
  const first = pool.take(elements);
  first.data.fill(7);
  assertEquals(pool.heldBytes, 4 * elements);
  const { data } = first;
  first.release();
  assertEquals(pool.heldBytes, 0);
  const again = pool.take(elements);
  assert(again.data === data, "the place that was free");
  if (Deno.build.os === "linux") {
    assertEquals(again.data[elements / 2], 0, "its pages were not kept");
  }
  pool.release();
});

Deno.test("a released block is refused, and released once", () => {
  using device = openDevice("cpu");
  const pool = new BlockPool(device);
  const shape = { layers: 2, slots: 2, kvHeads: 1, capacity: 64, headDim: 8 };
  const cache = new KvCache(device, shape, pool);
  const block = cache.save(0, 0, 32);
  assertEquals(pool.heldBytes, block.byteLength);
  block.release();
  block.release();
  assertEquals(pool.heldBytes, 0);
  assertThrows(() => cache.load(1, 0, block), Error, "internal: a released block");
  cache.release();
  pool.release();
});

Deno.test("views are kept for the last ranges only, and released with their range", () => {
  let open = 0;
  const views = new SlotViews((first, count, made) => {
    made.defer(() => open--);
    return [{ first, count }];
  });
  for (let first = 0; first < 32; first++) {
    for (let count = 1; count <= 32 - first; count++) {
      open++;
      const made = views.of(first, count);
      assertEquals(made[0].count, count);
      assert(made === views.of(first, count), "made once");
      views.checkIntegrity();
    }
  }
  assertEquals([open, views.size], [64, 64]);
  views.release();
  assertEquals(open, 0);
});

/** What the kernel keeps of the mapping in which an array lies. */
function flagsOf(array: Float32Array): readonly string[] {
  const bytes = new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset + 4096, 1);
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  let inside = false;
  for (const line of Deno.readTextFileSync("/proc/self/smaps").split("\n")) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
    if (from !== undefined) inside = BigInt(`0x${from}`) <= address && address < BigInt(`0x${to}`);
    if (inside && line.startsWith("VmFlags:")) return line.slice(8).trim().split(" ");
  }
  throw new Error("the array lies in no mapping");
}

Deno.test({
  name: "a row's first token brings small pages, whatever the system prefers",
  ignore: Deno.build.os !== "linux",
  fn: () => {
    using device = openDevice("cpu");
    const shape = { layers: 1, slots: 4, kvHeads: 3, capacity: 8192, headDim: 64 };
    const cache = new KvCache(device, shape);
    const [{ keys }] = cache.views(0, 4);
    assert(keys.data instanceof Float32Array);
    assert(flagsOf(keys.data).includes("nh"), "no huge pages");
    cache.release();
  },
});
