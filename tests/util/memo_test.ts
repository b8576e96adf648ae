/** Remembered answers: shared, bounded, forgotten when told so, asked for again when they are old. */
import { assertEquals, assertRejects } from "@std/assert";
import { Answers, Lru, ScopedAnswers } from "../../src/util/memo.ts";

function counted(cache: ScopedAnswers<number>) {
  let asked = 0;
  return (scope: string, name = "") => cache.get(scope, name, () => Promise.resolve(++asked));
}

Deno.test("a name is asked for once, until its scope is forgotten", async () => {
  const cache = new ScopedAnswers<number>({ most: 8, freshMs: Infinity });
  const ask = counted(cache);
  assertEquals(await Promise.all([ask("a"), ask("a"), ask("a", "@1")]), [1, 1, 2]);
  cache.forget("b");
  assertEquals(await ask("a"), 1);
  cache.forget("a");
  assertEquals([await ask("a"), await ask("a", "@1")], [3, 4]);
  cache.clear();
  assertEquals(await ask("a"), 5);
});

Deno.test("an answer that is on its way when its scope is forgotten is given to nobody else", async () => {
  const cache = new ScopedAnswers<string>({ most: 8, freshMs: Infinity });
  const { promise, resolve } = Promise.withResolvers<string>();
  const old = cache.get("a", "", () => promise);
  cache.forget("a");
  const fresh = cache.get("a", "", () => Promise.resolve("new"));
  resolve("old");
  assertEquals(await Promise.all([old, fresh]), ["old", "new"]);
  assertEquals(await cache.get("a", "", () => Promise.resolve("newer")), "new");
});

Deno.test("an old answer is asked for again, and a failure is not remembered", async () => {
  let now = 0;
  const cache = new ScopedAnswers<number>({ most: 8, freshMs: 100, now: () => now });
  const ask = counted(cache);
  await assertRejects(() => cache.get("a", "", () => Promise.reject(new Error("away"))));
  assertEquals(await ask("a"), 1);
  now = 99;
  assertEquals(await ask("a"), 1);
  now = 100;
  assertEquals(await ask("a"), 2);
});

Deno.test("where a failure is answered with what was last known, it is asked for again, until forgotten", async () => {
  let now = 0;
  const cache = new Answers<number>({ most: 8, freshMs: 100, onFailure: "last", now: () => now });
  const fail = () => cache.get("a", () => Promise.reject(new Error("away")));
  await assertRejects(fail, Error, "away");
  assertEquals(await cache.get("a", () => Promise.resolve(1)), 1);
  now = 100;
  assertEquals(await Promise.all([fail(), fail()]), [1, 1]);
  assertEquals(await fail(), 1);
  assertEquals(await cache.get("a", () => Promise.resolve(2)), 2);
  cache.forget("a");
  await assertRejects(fail, Error, "away");
});

Deno.test("scopes are bounded: the least recently asked for goes first", async () => {
  const cache = new ScopedAnswers<number>({ most: 2, freshMs: Infinity });
  const ask = counted(cache);
  assertEquals([await ask("a"), await ask("b"), await ask("a"), await ask("c")], [1, 2, 1, 3]);
  assertEquals(cache.size, 2);
  assertEquals([await ask("a"), await ask("b")], [1, 4]);
  for (let name = 0; name < 1000; name++) await ask("b", `@${name}`);
  assertEquals(cache.size, 2);
});

Deno.test("a map gives up what was not used for longest, and tells of it", () => {
  const gone: number[] = [];
  const map = new Lru<string, number>(2, (value) => gone.push(value));
  for (const [i, key] of ["a", "b"].entries()) map.set(key, i);
  assertEquals([map.get("a"), map.get("x")], [0, undefined]);
  map.set("c", 2);
  assertEquals([[...map.values()], gone], [[0, 2], [1]]);
  map.set("c", 3);
  map.delete("a");
  map.clear();
  assertEquals([map.size, gone], [0, [1]]);
});
