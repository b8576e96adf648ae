/** Names, versions and ambiguity in the registry, without files. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { toResident } from "../../../adapters/lotr/core.ts";
import { writeCore } from "../../../adapters/lotr/format.ts";
import { parseAdapterName } from "../../../adapters/catalog/name.ts";
import { AdapterRegistry } from "../../../adapters/catalog/registry.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import { coreLike, digestOf, smallCore, smallFactors, STACK } from "../small.ts";

function registryWith(options: { requestBytes?: number } = {}): AdapterRegistry {
  const registry = new AdapterRegistry({ stack: STACK, now: () => 1_700_000_000_500, ...options });
  registry.factors.add(smallFactors());
  return registry;
}

const core = (seed: number) => smallCore(smallFactors(), seed);
const from = (seed: number) => ({ core: core(seed), source: "test" });
const base64 = (bytes: Uint8Array) => bytes.toBase64();

Deno.test("a name is tenant, name and version, each of them checked", () => {
  assertEquals(parseAdapterName("acme/helper@3"), {
    tenant: "acme",
    name: "helper",
    version: { type: "number", number: 3 },
  });
  assertEquals(parseAdapterName("helper").tenant, undefined);
  assertEquals(parseAdapterName("a/b@12345678").version, { type: "digest", prefix: "12345678" });
  const wrong = [
    "",
    "/",
    "a/",
    "/a",
    "a/b/c",
    "../a",
    "a/..",
    ".a",
    "-a",
    "a b",
    "a\n",
    "a@",
    "a@0",
    "a@x",
    "a@1@2",
    "a@abc",
    `a@${digestOf("a")}0`,
    "ä",
    "x".repeat(65),
  ];
  for (const name of wrong) assertThrows(() => parseAdapterName(name), TypeError);
});

Deno.test("the same content again changes nothing, other content is the next version", () => {
  const registry = registryWith();
  const first = registry.add("acme/helper", from(1));
  assertEquals([first.name, first.model, first.created], [
    "acme/helper@1",
    "acme/helper",
    1_700_000_000,
  ]);
  assertEquals(registry.add("acme/helper", from(1)), first);
  const second = registry.add("acme/helper", from(2));
  assertEquals(second.name, "acme/helper@2");
  assertEquals(registry.resolve("acme/helper"), second);
  assertEquals(registry.resolve("acme/helper@1"), first);
  assertEquals(registry.resolve(`acme/helper@${first.digest.slice(0, 10)}`), first);
  assertEquals(registry.resolve("acme/helper@3"), undefined);
  assertEquals(registry.list(), [first, second]);
});

Deno.test("the newest load is what the name means, whatever its version", () => {
  const registry = registryWith();
  const first = registry.add("acme/helper", from(1));
  const second = registry.add("acme/helper", from(2));
  assertEquals(registry.add("acme/helper", from(1)), first);
  assertEquals(registry.resolve("acme/helper"), first);
  assertEquals(registry.resolve("helper"), first);
  assertEquals(registry.resolve("acme/helper@2"), second);
  const third = registry.add("acme/helper", from(3));
  assertEquals([third.name, registry.resolve("acme/helper")], ["acme/helper@3", third]);
  // as in the store: the version before the removed one, and no number twice
  assertEquals(registry.remove("acme/helper@3"), [third]);
  assertEquals(registry.resolve("acme/helper"), second);
  assertEquals(registry.add("acme/helper", from(4)).name, "acme/helper@4");
  registry.add("acme/helper", from(1));
  registry.remove("acme/helper@1");
  assertEquals(registry.resolve("acme/helper"), undefined);
  assertEquals(registry.list().map(({ name }) => name), ["acme/helper@2", "acme/helper@4"]);
  assertEquals(registry.remove("acme/helper").length, 2);
  assertEquals(registry.resolve("helper"), undefined);
  assertEquals(registry.add("acme/helper", from(1)).name, "acme/helper@5");
});

Deno.test("a version may be asked for, and may not be taken", () => {
  const registry = registryWith();
  assertEquals(registry.add("a/b@7", from(1)).name, "a/b@7");
  assertEquals(registry.add("a/b", from(2)).name, "a/b@8");
  assertEquals(registry.add("a/b@2", from(3)).name, "a/b@2");
  assertEquals(registry.resolve("a/b")?.name, "a/b@8");
  const error = assertThrows(() => registry.add("a/b@7", from(4)), RangeError);
  assert(error.message.includes(core(1).digest), error.message);
  assertThrows(() => registry.add("a/b@abcdef12", from(5)), TypeError, "version number");
});

Deno.test("a bare name works while one tenant has it", () => {
  const registry = registryWith();
  registry.add("acme/helper", from(1));
  assertEquals(registry.resolve("helper")?.tenant, "acme");
  registry.add("zeta/helper", from(2));
  assertThrows(() => registry.resolve("helper"), RangeError, "acme/helper, zeta/helper");
  assertEquals(registry.resolve("zeta/helper@1")?.tenant, "zeta");
  assertEquals(registry.resolve("elper"), undefined);
  assertEquals(registry.add("solo", from(3)).name, "default/solo@1");
});

Deno.test("what is removed is gone by name, version by version or at once", async () => {
  const registry = registryWith();
  const [one, two] = [registry.add("a/b", from(1)), registry.add("a/b", from(2))];
  const other = registry.add("c/d", from(1));
  assertEquals(registry.remove("a/b@1"), [one]);
  assertEquals(registry.list(), [two, other]);
  await registry.load(one); // c/d still names the same core
  registry.add("a/b", from(3));
  assertEquals(registry.remove("a/b").length, 2);
  assertEquals(registry.remove("a/b"), []);
  assertEquals(registry.remove("c/d"), [other]);
  await assertRejects(() => registry.load(one), RangeError, "unloaded");
});

Deno.test("a core of another base, or of factors that are not loaded, is refused with both named", () => {
  const registry = registryWith();
  const stranger = coreLike(core(1), { base: digestOf("b") });
  const error = assertThrows(() => registry.add("a/b", { core: stranger, source: "" }), TypeError);
  assert(error.message.includes(digestOf("b")) && error.message.includes(STACK.base));
  const orphan = coreLike(core(1), { factors: digestOf("c") });
  const missing = assertThrows(() => registry.add("a/b", { core: orphan, source: "" }), RangeError);
  assert(
    missing.message.includes(digestOf("c")) && missing.message.includes(smallFactors().digest),
  );
  assertEquals(registry.list(), []);
});

Deno.test("a factor set of another base, depth or width is refused with both named", () => {
  const registry = registryWith();
  const texts = [
    [{ ...STACK, base: digestOf("b") }, /its base is a{64}, served is b{64}/],
    [{ ...STACK, layers: 3 }, /2 layers.*the base has 3 layers/],
    [{ ...STACK, outputs: { ...STACK.outputs, "v_proj": 16 } }, /v_proj 16→8.*v_proj 16→16/],
  ] as const;
  for (const [stack, text] of texts) {
    const other = new AdapterRegistry({ stack });
    assertMatch(assertThrows(() => other.factors.add(smallFactors()), TypeError).message, text);
  }
  assertEquals(registry.factors.inMemory().length, 1);
});

Deno.test("several factor sets serve side by side, each core by its own", async () => {
  const registry = registryWith();
  const wide = smallFactors({ rank: 8, seed: 5 });
  registry.factors.add(wide);
  const [narrow, other] = [registry.add("a/b", from(1)), smallCore(wide, 2)];
  const entry = registry.add("a/c", { core: other, source: "" });
  assertNotEquals(narrow.factors, entry.factors);
  assertEquals(registry.residentBytes(entry), 4 * registry.residentBytes(narrow));
  assertEquals(await registry.load(entry), toResident(other, wide));
});

Deno.test("a core in a request is known until released, shared, and never listed", async () => {
  const registry = registryWith();
  const text = base64(writeCore(core(1), "float16"));
  const [one, two] = [registry.fromRequest("acme", text), registry.fromRequest("acme", text)];
  assertEquals(one.core, two.core);
  assertEquals(registry.list(), []);
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assertEquals((await registry.load(two.core)).digest, two.core.digest);
  two[Symbol.dispose]();
  await assertRejects(() => registry.load(two.core), RangeError);
  const urlSafe = text.replaceAll("+", "-").replaceAll("/", "_");
  using again = registry.fromRequest("acme", urlSafe);
  assertEquals(again.core.digest, one.core.digest);
});

Deno.test("cores of requests in flight are bounded, and equal ones count once", () => {
  const size = core(1).cores.byteLength;
  const registry = registryWith({ requestBytes: 2 * size });
  const texts = [1, 2, 3].map((seed) => base64(writeCore(core(seed))));
  const held = [texts[0], texts[1], texts[1]].map((text) => registry.fromRequest("acme", text));
  assertThrows(
    () => registry.fromRequest("acme", texts[2]),
    OverloadedError,
    `hold ${2 * size} bytes`,
  );
  held[0][Symbol.dispose]();
  registry.fromRequest("acme", texts[2])[Symbol.dispose]();
});

Deno.test("what is no core in a request is refused", () => {
  const registry = registryWith();
  const text = base64(writeCore(core(1)));
  assertThrows(() => registry.fromRequest("acme", "§§"), TypeError, "not base64");
  assertThrows(() => registry.fromRequest("acme", ""), TypeError);
  assertThrows(() => registry.fromRequest("acme", text.slice(0, 400)), TypeError);
  assertThrows(() => registry.fromRequest("acme", "A".repeat(60_000_000)), RangeError, "at most");
  const stranger = coreLike(core(1), { base: digestOf("b") });
  assertThrows(
    () => registry.fromRequest("acme", base64(writeCore(stranger))),
    TypeError,
    digestOf("b"),
  );
});

Deno.test("a core whose file changed since it was registered is not served", async () => {
  const registry = registryWith();
  let seed = 1;
  const reload = () => Promise.resolve(core(seed));
  const entry = registry.add("a/b", { ...from(1), reload });
  await registry.load(entry);
  seed = 2;
  const error = await assertRejects(() => registry.load(entry), TypeError);
  assert(error.message.includes(core(1).digest) && error.message.includes(core(2).digest));
});
