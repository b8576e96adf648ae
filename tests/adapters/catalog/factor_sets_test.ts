/** Factor sets: each read once, their numbers come and go within a bound, what they are stays known. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { FactorSets } from "../../../adapters/catalog/factor_sets.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import { writeFactors } from "../../../adapters/lotr/format.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import { smallCore, smallFactors, STACK } from "../small.ts";

const sets = [1, 2, 3, 4].map((seed) => smallFactors({ seed }));
const [pinned, one, two, three] = sets as [FactorSet, FactorSet, FactorSet, FactorSet];

Deno.test("numbers leave by the bound, least recently used first, and come back once for all who ask", async () => {
  const held = new FactorSets(STACK, 2 * one.byteLength);
  const reads: string[] = [];
  const again = (set: FactorSet) => () => {
    reads.push(set.digest);
    return Promise.resolve(set);
  };
  held.add(pinned);
  for (const set of [one, two]) held.add(set, again(set));
  await held.get(one.digest);
  held.add(three, again(three));
  assertEquals(held.inMemory(), [pinned, one, three]);
  assertEquals(held.bytes, 2 * one.byteLength);
  assertEquals(held.shapeOf(two.digest), two.shape);
  const got = await Promise.all([held.get(two.digest), held.get(two.digest)]);
  assertEquals(got, [two, two]);
  assertEquals(reads, [two.digest]);
  assertEquals(held.inMemory(), [pinned, two, three]);
});

Deno.test("a set that could not be had again is asked for anew; one without a way back stays", async () => {
  const held = new FactorSets(STACK, 0);
  let broken = true;
  held.add(
    one,
    () => broken ? Promise.reject(new Error("the store is away")) : Promise.resolve(one),
  );
  held.add(pinned);
  await assertRejects(() => held.get(one.digest), Error, "the store is away");
  broken = false;
  assertEquals(await held.get(one.digest), one);
  assertEquals(held.inMemory(), [pinned]);
  await assertRejects(() => held.get(two.digest), RangeError, two.digest);
});

Deno.test("cores of a hundred sets in the store are served from a bound of two sets", async () => {
  const registry = new AdapterRegistry({ stack: STACK, factorBytes: 2 * one.byteLength });
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  let reads = 0;
  const { factors: stored } = registry;
  await stored.keepIn({
    add: (digest, file) => Promise.resolve(void files.set(digest, new Uint8Array(file))),
    get: (digest) => Promise.resolve((reads++, files.get(digest))),
    list: () => Promise.resolve([]),
  });
  const many = Array.from(
    { length: 100 },
    (_, seed) => smallFactors({ seed }),
  );
  for (const set of many) await stored.keep(set);
  assertEquals(registry.factors.inMemory().length, 2);
  for (const [i, set] of many.entries()) {
    await stored.ensure(set.digest);
    const core = smallCore(set, i);
    registry.check(core);
    const ref = registry.add(`t/core-${i}`, { core, source: "test" });
    assertEquals((await registry.load(ref)).data.byteLength, set.residentBytes);
  }
  assertEquals(reads, 0, "a core needs no numbers of its set");
  const [first] = many;
  assert(first !== undefined);
  assertEquals(writeFactors(await stored.get(first.digest)), writeFactors(first));
  assertEquals([reads, registry.factors.inMemory().length], [1, 2]);
  const [, lost] = many;
  assert(lost !== undefined);
  files.delete(lost.digest);
  await assertRejects(
    () => stored.get(lost.digest),
    RangeError,
    "not in the store any more",
  );
  // who brings it again mends it
  await stored.keep(lost);
  assertEquals(files.has(lost.digest), true);
  assertEquals((await stored.get(lost.digest)).digest, lost.digest);
});

Deno.test("who asks for a set while it is being read waits for that, and it is read once", async () => {
  const registry = new AdapterRegistry({ stack: STACK });
  const { promise: file, resolve: arrive } = Promise.withResolvers<Uint8Array<ArrayBuffer>>();
  let reads = 0;
  const { factors: stored } = registry;
  await stored.keepIn({
    add: () => Promise.resolve(),
    get: () => (reads++, file),
    list: () => Promise.resolve([]),
  });
  const both = Promise.all([stored.get(one.digest), stored.get(one.digest)]);
  assertEquals(registry.factors.has(one.digest), false);
  arrive(new Uint8Array(writeFactors(one)));
  assertEquals((await both).map(({ digest }) => digest), [one.digest, one.digest]);
  await stored.get(one.digest);
  assertEquals(reads, 1);
});
