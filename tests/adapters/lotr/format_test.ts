/** Core and factor files: round trips, and truncated, garbled or lying bytes. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  fileKind,
  MAX_CORE_BYTES,
  readCore,
  readFactors,
  writeCore,
  writeFactors,
} from "../../../adapters/lotr/format.ts";
import { svdFactors } from "../../../adapters/lotr/make/makers.ts";
import { MODULES } from "../../../src/models/hook.ts";
import {
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import { coreLike, digestOf, smallCore, smallFactors, SmallWeights, STACK } from "../small.ts";

const FIXTURES = new URL("../../fixtures/adapters/", import.meta.url);

Deno.test("a core comes back from its file with the same digest, alpha and values", () => {
  const core = coreLike(smallCore(smallFactors(), 1, 3), { alpha: 4.5 });
  const back = readCore(writeCore(core));
  assertEquals(back, core);
  assertEquals(back.digest, core.digest);
  assertEquals(fileKind(writeCore(core)), "core");
});

Deno.test("a core written in float16 comes back as the rounded core, again and again", () => {
  const core = smallCore(smallFactors(), 1);
  const once = readCore(writeCore(core, "float16"));
  assert(once.digest !== core.digest);
  const twice = readCore(writeCore(once, "float16"));
  assertEquals(twice.digest, once.digest);
  assertEquals(readCore(writeCore(once)).digest, once.digest, "whatever the file's dtype");
  assert(writeCore(core, "float16").length < writeCore(core).length);
});

Deno.test("a value beyond float16 is refused, not made infinite", () => {
  const core = coreLike(smallCore(smallFactors(), 1), { cores: new Float32Array(64).fill(1e6) });
  assertThrows(() => writeCore(core, "float16"), TypeError, "Infinity");
});

Deno.test("a factor set comes back from its file, in both dtypes and with all linears", () => {
  const factors = svdFactors({
    stack: STACK,
    rank: 4,
    modules: MODULES,
    weights: new SmallWeights(),
  });
  const back = readFactors(writeFactors(factors));
  assertEquals(back, factors);
  const half = readFactors(writeFactors(factors, "float16"));
  assertEquals(readFactors(writeFactors(half, "float16")).digest, half.digest);
  assertEquals(fileKind(writeFactors(factors)), "factors");
});

Deno.test("the trained cores, written by Python, have the digests Python gave them", () => {
  const factors = readFactors(Deno.readFileSync(new URL("factors.safetensors", FIXTURES)));
  assertEquals([factors.rank, factors.layers, factors.modules], [16, 30, ["q_proj", "v_proj"]]);
  for (const task of ["shelf", "order"]) {
    const bytes = Deno.readFileSync(new URL(`${task}.safetensors`, FIXTURES));
    const core = readCore(bytes);
    core.checkFactors(factors);
    assertEquals(core.digest, parseSafetensors(bytes).metadata.get("digest"));
    assertEquals(readCore(writeCore(core, "float16")).digest, core.digest);
  }
});

/** The file's parts, to be put together wrongly. */
function partsOf(bytes: Uint8Array) {
  const { metadata, tensors } = parseSafetensors(bytes);
  const tensor = tensors.get("cores");
  if (tensor === undefined) throw new Error("the test's own file has no cores");
  return { metadata, tensor };
}

function rebuilt(
  change: { field?: string; value?: string; tensor?: Partial<SafetensorsTensor>; name?: string },
): Uint8Array {
  const { metadata, tensor } = partsOf(writeCore(smallCore(smallFactors(), 1)));
  const fields = new Map(metadata);
  if (change.field !== undefined) {
    if (change.value === undefined) fields.delete(change.field);
    else fields.set(change.field, change.value);
  }
  return writeSafetensors([[change.name ?? "cores", { ...tensor, ...change.tensor }]], fields);
}

Deno.test("a core file that lies about itself is refused, and the text says in what", () => {
  const cases: [Parameters<typeof rebuilt>[0], RegExp][] = [
    [{ field: "format", value: "lembas.core/2" }, /format is "lembas.core\/2", lembas.core\/1/],
    [{ field: "format" }, /format is undefined/],
    [{ field: "base" }, /no 'base'/],
    [{ field: "base", value: "xyz" }, /64 hex digits, current value is "xyz"/],
    [{ field: "factors", value: digestOf("G") }, /64 hex digits/],
    [{ field: "factors", value: digestOf("b") }, /has digest [0-9a-f]{64}, its metadata say/],
    [{ field: "rank", value: "3" }, /shape is \[2,2,4,4\], wanted is \[2,2,3,3\]/],
    [{ field: "rank", value: "99" }, /wanted is \[2,2,99,99\]/],
    [{ field: "rank", value: "" }, /rank/],
    [{ field: "alpha", value: "NaN" }, /alpha/],
    [{ field: "alpha", value: "-4" }, /positive number, current value is -4/],
    [{ field: "layers", value: "7" }, /2 layers, its metadata say 7/],
    [{ field: "modules", value: "q_proj" }, /not JSON/],
    [{ field: "modules", value: '{"a":1}' }, /not a list/],
    [{ field: "modules", value: '["q_proj","x_proj"]' }, /'x_proj'/],
    [{ field: "modules", value: '["v_proj","q_proj"]' }, /not in the order/],
    [{ field: "modules", value: '["q_proj","q_proj"]' }, /named once/],
    [{ field: "modules", value: "[]" }, /at least one/],
    [{ name: "Cores" }, /\[Cores\]: wanted are \[cores\]/],
    [{ tensor: { shape: [2, 2, 16] } }, /shape is \[2,2,16\]/],
    [{ tensor: { shape: [4, 1, 4, 4] } }, /shape is \[4,1,4,4\], wanted is \[4,2,4,4\]/],
    [{ tensor: { dtype: "I32" } }, /dtype is I32, F32 or F16/],
    [
      { tensor: { data: new Uint8Array(new Float32Array(64).fill(NaN).buffer) } },
      /element 0 is NaN/,
    ],
    [{ tensor: { data: new Uint8Array(256) } }, /has digest/],
  ];
  for (const [change, text] of cases) {
    const error = assertThrows(() => readCore(rebuilt(change)), Error);
    assert(error instanceof TypeError || error instanceof RangeError, String(error));
    assertMatch(error.message, text);
  }
});

Deno.test("a core file without its own digest is read by its content", () => {
  const core = smallCore(smallFactors(), 1);
  assertEquals(readCore(rebuilt({ field: "digest" })).digest, core.digest);
});

Deno.test("a file cut short anywhere, or too long, is refused", () => {
  const bytes = writeCore(smallCore(smallFactors(), 1));
  for (let length = 0; length < bytes.length; length++) {
    assertThrows(() => readCore(bytes.subarray(0, length)), TypeError);
  }
  assertThrows(() => readCore(new Uint8Array(MAX_CORE_BYTES + 1)), RangeError, "at most");
});

Deno.test("flipping any byte of a core file either is refused or gives the same core", () => {
  const bytes = writeCore(smallCore(smallFactors(), 1));
  const { digest } = readCore(bytes);
  for (let at = 0; at < bytes.length; at++) {
    const garbled = bytes.slice();
    garbled[at] ^= 0x15;
    try {
      assertEquals(readCore(garbled).digest, digest);
    } catch (error) {
      assert(error instanceof TypeError || error instanceof RangeError, String(error));
    }
  }
});

Deno.test("a factor file cut short, or with a tensor too few or many, is refused", () => {
  const bytes = writeFactors(smallFactors());
  for (let length = 0; length < bytes.length; length += 7) {
    assertThrows(() => readFactors(bytes.subarray(0, length)), TypeError);
  }
  const { metadata, tensors } = parseSafetensors(bytes);
  const without = [...tensors].filter(([name]) => name !== "B.v_proj");
  assertThrows(() => readFactors(writeSafetensors(without, metadata)), TypeError, "B.v_proj");
  const [a] = tensors.values();
  assertThrows(
    () => readFactors(writeSafetensors([...tensors, ["A.mlp_in", a]], metadata)),
    TypeError,
    "A.mlp_in",
  );
  assertThrows(() => readFactors(writeCore(smallCore(smallFactors(), 1))), TypeError, "format");
});
