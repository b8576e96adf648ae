/** Prefix caching: same text, less work, and nobody else's keys and values. */
import { assert, assertEquals } from "@std/assert";
import { BLOCK_TOKENS, PrefixCache, PrefixChain, worthTaking } from "../../src/engine/kv_memory.ts";
import type { KvBlock } from "../../src/executor/model.ts";
import { adapter } from "../fakes/adapters.ts";
import { alone, harness, read, readOne, request, type RequestOptions, seeded } from "./harness.ts";

const LONG = "abcdefgh".repeat(14);
const MODEL = { maxContext: 512, prefillTokens: 256 };

/** Hit tokens of the second request after the first ran. */
async function hits(first: RequestOptions, second: RequestOptions): Promise<number> {
  await using own = harness({ model: MODEL });
  await read(own.engine.generate(request({ prompt: LONG, ...first })));
  const asked = request({ prompt: LONG, ...second });
  const generation = own.engine.generate(asked);
  assertEquals(await read(generation), await alone(asked, { model: MODEL, prefixMemory: 0 }));
  assertEquals(generation.usage.cachedTokens, own.engine.stats().prefixHitTokens);
  return generation.usage.cachedTokens;
}

Deno.test("a prompt seen before costs its last tokens only and gives the same text", async () => {
  assert(await hits({}, {}) >= 64);
  assert(await hits({ maxTokens: 3 }, { prompt: LONG + " and more", maxTokens: 9 }) >= 64);
});

Deno.test("at least one prompt token is always computed", async () => {
  const prompt = new Array<number>(2 * BLOCK_TOKENS).fill(65);
  assertEquals(await hits({ prompt }, { prompt }), BLOCK_TOKENS);
});

Deno.test("another tenant, core version or lane never meets the blocks", async () => {
  assertEquals(await hits({ tenant: "a" }, { tenant: "b" }), 0);
  assertEquals(await hits({ adapter: adapter("a/x@1") }, { adapter: adapter("a/x@2") }), 0);
  assertEquals(await hits({ adapter: adapter("a/x@1") }, {}), 0);
  assert(await hits({ adapter: adapter("a/x@1") }, { adapter: adapter("a/x@1") }) > 0);
});

Deno.test("scopes and chains differ by every part, whatever characters these hold", () => {
  const tokens = new Int32Array(2 * BLOCK_TOKENS).fill(7);
  const scopes = [
    { tenant: "a", core: undefined, lane: undefined },
    { tenant: "a", core: "b", lane: undefined },
    { tenant: "a", core: undefined, lane: "b" },
    { tenant: 'a","b', core: undefined, lane: undefined },
    { tenant: "a\u0000b", core: undefined, lane: undefined },
  ];
  const keys = scopes.flatMap((scope) => {
    const chain = new PrefixChain(scope);
    return [chain.key(0, tokens), chain.key(1, tokens)];
  });
  assertEquals(new Set(keys).size, keys.length);
});

Deno.test("the next turn of a chat finds prompt and answer", async () => {
  await using own = harness({ model: MODEL });
  const prompt = request({ prompt: LONG }).prompt;
  const first = await readOne(
    own.engine.generate(request({ prompt, maxTokens: 70, ignoreEos: true })),
  );
  const next = request({ prompt: [...prompt, ...first.tokens, 65, 66], maxTokens: 5 });
  const generation = own.engine.generate(next);
  await read(generation);
  assert(generation.usage.cachedTokens > prompt.length, `${generation.usage.cachedTokens} cached`);
});

Deno.test("a small hit is left alone, so that first prompts stay in one batch", () => {
  assertEquals(worthTaking(0, 1), false);
  assertEquals(worthTaking(32, 100), false);
  assertEquals(worthTaking(32, 64), true);
  assertEquals(worthTaking(64, 1000), true);
});

Deno.test("cached blocks give way before anybody is preempted or refused", async () => {
  await using own = harness({ model: MODEL, kvMemory: 4000, prefixMemory: 4000 });
  for (const tenant of ["a", "b", "c"]) {
    await read(own.engine.generate(request({ tenant, prompt: LONG, maxTokens: 4 })));
  }
  assert(own.engine.stats().kvBytesCached > 1500);
  const asked = request({
    prompt: LONG.slice(0, 40),
    maxTokens: 300,
    ignoreEos: true,
    tenant: "d",
  });
  const sample = await readOne(own.engine.generate(asked));
  assertEquals(sample.tokens.length, 300);
  assertEquals(own.engine.stats().preemptions, 0);
});

Deno.test("a cache of no bytes saves nothing", async () => {
  await using own = harness({ model: MODEL, prefixMemory: 0 });
  await read(own.engine.generate(request({ prompt: LONG })));
  assertEquals(own.engine.stats().kvBytesCached, 0);
  assertEquals(own.model.blocks, 0);
});

Deno.test("eviction takes the longest unused leaves, never a block before its children", () => {
  const cache = new PrefixCache();
  const random = seeded(8);
  const released = new Set<string>();
  const chains = Array.from({ length: 12 }, (_, i) => {
    const tokens = new Int32Array(6 * BLOCK_TOKENS).fill(1);
    tokens.fill(i, BLOCK_TOKENS * (1 + i % 4));
    return { chain: new PrefixChain({ tenant: "t", core: undefined, lane: undefined }), tokens };
  });
  for (let step = 0; step < 2000; step++) {
    const { chain, tokens } = chains[Math.floor(random() * chains.length)] ?? chains[0] ?? fail();
    const present = cache.present(chain, tokens, 6);
    const action = random();
    if (action < 0.5 && present < 6) {
      const key = chain.key(present, tokens);
      released.delete(key);
      cache.insert(chain, tokens, present, block(() => released.add(key)));
    } else if (action < 0.8) cache.touch(chain, tokens, present);
    else {
      cache.touch(chain, tokens, present);
      cache.shrinkTo(Math.max(present, cache.bytes - 3));
      assertEquals(cache.present(chain, tokens, 6), present, "what was just used stays");
    }
    cache.checkIntegrity();
    assert(!released.has(chain.key(0, tokens)) || !cache.has(chain.key(0, tokens)));
  }
  cache.shrinkTo(0);
  assertEquals([cache.size, cache.bytes], [0, 0]);
});

function block(release: () => void): KvBlock {
  return { length: BLOCK_TOKENS, byteLength: 1, release };
}

function fail(): never {
  throw new Error("no chain");
}
