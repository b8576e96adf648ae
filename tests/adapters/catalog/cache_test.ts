/** The cache of cores: residence, leases, eviction and shared loads, without a model or a file. */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { CoreCache, type CoreLoader } from "../../../adapters/catalog/cache.ts";
import { toResident } from "../../../adapters/lotr/core.ts";
import { gaussian } from "../../../src/util/random.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import type { CoreLease, ServedCore } from "../../../src/engine/request/request.ts";
import type { ResidentCore } from "../../../src/executor/model.ts";
import { adapter } from "../../fakes/adapters.ts";
import { smallCore, smallFactors, STACK } from "../small.ts";

const BYTES = 64;

function refOf(name: string): ServedCore {
  return { ...adapter(name), digest: name };
}

function coreOf(ref: ServedCore): ResidentCore {
  return { digest: ref.digest, data: new Float32Array(BYTES / 4) };
}

/** Loads that end when the test says so. */
class HeldLoader implements CoreLoader {
  readonly started: string[] = [];
  readonly #open = new Map<string, PromiseWithResolvers<ResidentCore>>();

  load(ref: ServedCore): Promise<ResidentCore> {
    this.started.push(ref.name);
    const open = Promise.withResolvers<ResidentCore>();
    this.#open.set(ref.name, open);
    return open.promise;
  }

  residentBytes(): number {
    return BYTES;
  }

  async finish(name: string): Promise<void> {
    this.#open.get(name)?.resolve(coreOf(refOf(name)));
    await settled();
  }

  async fail(name: string, error: Error): Promise<void> {
    this.#open.get(name)?.reject(error);
    await settled();
  }

  pending(): string[] {
    return [...this.#open.keys()];
  }

  forget(name: string): void {
    this.#open.delete(name);
  }
}

/** Lets every callback that is due run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

function cacheFor(cores: number): { cache: CoreCache; loader: HeldLoader } {
  const loader = new HeldLoader();
  return { cache: new CoreCache({ loader, maxBytes: cores * BYTES }), loader };
}

async function resident(cache: CoreCache, loader: HeldLoader, name: string): Promise<CoreLease> {
  const lease = cache.acquire(refOf(name));
  await settled();
  await loader.finish(name);
  return await lease;
}

Deno.test("a resident core is leased at once, without a promise", async () => {
  const { cache, loader } = cacheFor(2);
  (await resident(cache, loader, "a")).release();
  const lease = cache.acquire(refOf("a"));
  assert(!(lease instanceof Promise));
  assertEquals([cache.metrics().hits, cache.metrics().misses], [1, 1]);
  assertEquals(lease.core.digest, "a");
  cache.checkIntegrity();
});

Deno.test("a registry's cores come through the cache padded and scaled", async () => {
  const factors = smallFactors();
  const registry = new AdapterRegistry({ stack: STACK });
  registry.factors.add(factors);
  const ref = registry.add("a/b", { core: smallCore(factors, 1, 2), source: "test" });
  const cache = new CoreCache({ loader: registry, maxBytes: factors.residentBytes });
  const lease = await cache.acquire(ref);
  assertEquals(lease.core, toResident(smallCore(factors, 1, 2), factors));
  assertThrows(() => cache.acquire({ ...ref, digest: "other", factors: "unknown" }), RangeError);
  cache.checkIntegrity();
});

Deno.test("acquires of one core share one load", async () => {
  const { cache, loader } = cacheFor(1);
  const leases = [1, 2, 3].map(() => cache.acquire(refOf("a")));
  await settled();
  assertEquals(loader.started, ["a"]);
  await loader.finish("a");
  const [one, two, three] = await Promise.all(leases);
  assertStrictEquals(one.core, three.core);
  one.release();
  two.release();
  assertEquals(cache.metrics().pinnedCores, 1);
  three.release();
  three.release();
  assertEquals(cache.metrics().pinnedCores, 0);
  cache.checkIntegrity();
});

Deno.test("the least recently used core leaves first, a leased one never", async () => {
  const { cache, loader } = cacheFor(3);
  const [a, b, c] = [
    await resident(cache, loader, "a"),
    await resident(cache, loader, "b"),
    await resident(cache, loader, "c"),
  ];
  b.release();
  c.release();
  const again = cache.acquire(refOf("b"));
  assert(!(again instanceof Promise));
  again.release(); // b is now younger than c
  (await resident(cache, loader, "d")).release();
  assert(cache.acquire(refOf("c")) instanceof Promise, "c was evicted");
  await settled();
  await loader.finish("c");
  assert(!(cache.acquire(refOf("a")) instanceof Promise), "a is leased");
  assertEquals(cache.metrics().evictions, 2);
  a.release();
  cache.checkIntegrity();
});

Deno.test("where all memory is leased a cold core waits, and resident ones do not", async () => {
  const { cache, loader } = cacheFor(1);
  const first = await resident(cache, loader, "a");
  const cold = cache.acquire(refOf("b"));
  await settled();
  assertEquals(loader.started, ["a"], "no load begins without memory for it");
  assertEquals(cache.metrics().waiting, 1);
  const hit = cache.acquire(refOf("a"));
  assert(!(hit instanceof Promise));
  hit.release();
  cache.checkIntegrity();
  first.release();
  await settled();
  await loader.finish("b");
  assertEquals((await cold).core.digest, "b");
  assertEquals(cache.metrics().residentBytes, BYTES);
  cache.checkIntegrity();
});

Deno.test("a failure reaches everyone who waits and is not remembered", async () => {
  const { cache, loader } = cacheFor(1);
  const both = [cache.acquire(refOf("a")), cache.acquire(refOf("a"))];
  const seen = Promise.allSettled(both);
  await settled();
  await loader.fail("a", new TypeError("broken"));
  for (const result of await seen) {
    assert(result.status === "rejected");
    assertInstanceOf(result.reason, TypeError);
  }
  cache.checkIntegrity();
  assertEquals([cache.metrics().failures, cache.metrics().residentBytes], [1, 0]);
  const lease = await resident(cache, loader, "a");
  assertEquals(loader.started, ["a", "a"]);
  lease.release();
  cache.checkIntegrity();
});

Deno.test("a failed load hands its memory to the one that waits", async () => {
  const { cache, loader } = cacheFor(1);
  const bad = cache.acquire(refOf("a"));
  const good = cache.acquire(refOf("b"));
  const seen = Promise.allSettled([bad]);
  await settled();
  await loader.fail("a", new Error("broken"));
  await seen;
  await loader.finish("b");
  assertEquals((await good).core.digest, "b");
  cache.checkIntegrity();
});

Deno.test("an abort gives up its own acquire only", async () => {
  const { cache, loader } = cacheFor(1);
  const controller = new AbortController();
  const given = cache.acquire(refOf("a"), controller.signal) as Promise<CoreLease>;
  const kept = cache.acquire(refOf("a"));
  controller.abort(new Error("client went away"));
  await assertRejects(() => given, Error, "client went away");
  await loader.finish("a");
  const lease = await kept;
  assertEquals(cache.metrics().pinnedCores, 1);
  lease.release();
  assertThrows(() => cache.acquire(refOf("a"), controller.signal), Error, "client went away");
  cache.checkIntegrity();
});

Deno.test("an abort by the last who waits for memory takes the core out of the queue", async () => {
  const { cache, loader } = cacheFor(1);
  const held = await resident(cache, loader, "a");
  const controller = new AbortController();
  const given = cache.acquire(refOf("b"), controller.signal) as Promise<CoreLease>;
  const next = cache.acquire(refOf("c"));
  controller.abort();
  await assertRejects(() => given, DOMException);
  held.release();
  await settled();
  assertEquals(loader.started, ["a", "c"]);
  await loader.finish("c");
  (await next).release();
  cache.checkIntegrity();
});

Deno.test("a load that nobody waits for any more still ends resident and free to leave", async () => {
  const { cache, loader } = cacheFor(1);
  const controller = new AbortController();
  const given = cache.acquire(refOf("a"), controller.signal) as Promise<CoreLease>;
  await settled();
  controller.abort();
  await assertRejects(() => given, DOMException);
  await loader.finish("a");
  assertEquals([cache.metrics().residentCores, cache.metrics().pinnedCores], [1, 0]);
  cache.checkIntegrity();
  (await resident(cache, loader, "b")).release();
  assertEquals(cache.metrics().residentCores, 1);
  cache.checkIntegrity();
});

Deno.test("a forgotten core leaves memory, a leased one stays until its lease ends", async () => {
  const { cache, loader } = cacheFor(2);
  const lease = await resident(cache, loader, "a");
  cache.forget("a");
  assertEquals(cache.metrics().residentCores, 1);
  lease.release();
  cache.forget("a");
  cache.forget("unknown");
  assertEquals([cache.metrics().residentCores, cache.metrics().residentBytes], [0, 0]);
  cache.checkIntegrity();
});

Deno.test("a core that can never fit, or is not what was asked for, is refused", async () => {
  const loader = new HeldLoader();
  const cache = new CoreCache({ loader, maxBytes: BYTES - 1 });
  assertThrows(() => cache.acquire(refOf("a")), RangeError, "it takes 64 bytes, core memory is 63");
  assertThrows(() => new CoreCache({ loader, maxBytes: 0 }), RangeError, "current value is 0");
  const liar: CoreLoader = {
    load: () => Promise.resolve(coreOf(refOf("b"))),
    residentBytes: () => BYTES,
  };
  const other = new CoreCache({ loader: liar, maxBytes: BYTES });
  await assertRejects(async () => await other.acquire(refOf("a")), TypeError, "of b");
  other.checkIntegrity();
});

Deno.test("under random acquires, ends, failures and aborts the books balance and nothing starves", async () => {
  const { cache, loader } = cacheFor(5);
  const draws = gaussian(11, 0, 40_000);
  let at = 0;
  const draw = (n: number) => Math.floor(Math.abs(draws[at++]) * 1e6) % n;
  const leases: CoreLease[] = [];
  const open = new Set<AbortController>();
  let [acquired, granted, refused] = [0, 0, 0];
  const acquire = () => {
    const controller = new AbortController();
    acquired++;
    const lease = cache.acquire(refOf(`core ${draw(12)}`), controller.signal);
    if (!(lease instanceof Promise)) {
      granted++;
      return leases.push(lease);
    }
    open.add(controller);
    return lease.then((lease) => {
      granted++;
      leases.push(lease);
    }, () => refused++).finally(() => open.delete(controller));
  };
  const endLoad = async () => {
    const names = loader.pending();
    const name = names[draw(Math.max(1, names.length))];
    if (name === undefined) return;
    if (draw(10) === 0) await loader.fail(name, new Error("broken"));
    else await loader.finish(name);
    loader.forget(name);
  };
  const abort = () => [...open][draw(Math.max(1, open.size))]?.abort();
  const release = () => leases.splice(draw(Math.max(1, leases.length)), 1)[0]?.release();
  for (let step = 0; step < 6000; step++) {
    const what = draw(10);
    if (what < 4) void acquire();
    else if (what < 6) await endLoad();
    else if (what < 9) release();
    else abort();
    if (step % 3 === 0) await Promise.resolve();
    cache.checkIntegrity();
    const { residentBytes, maxBytes, pinnedCores } = cache.metrics();
    assert(residentBytes <= maxBytes);
    assert(pinnedCores <= new Set(leases.map(({ core }) => core.digest)).size + open.size);
  }
  while (open.size > 0 || leases.length > 0) {
    for (const lease of leases.splice(0)) lease.release();
    await settled();
    await endLoad();
    cache.checkIntegrity();
  }
  assertEquals(acquired, granted + refused);
  assertEquals([cache.metrics().pinnedCores, cache.metrics().waiting], [0, 0]);
  const { hits, misses, evictions, failures } = cache.metrics();
  assertEquals(hits + misses, acquired);
  assert(Math.min(hits, misses, evictions, failures) > 20, JSON.stringify(cache.metrics()));
});
