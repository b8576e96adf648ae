/** The safetensors container: round trips, and headers that lie. */

import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import {
  float32Tensor,
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import { seeded } from "../fixtures.ts";

const BYTES: SafetensorsTensor = { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) };
const HALVES: SafetensorsTensor = { dtype: "F16", shape: [1, 2], data: Uint8Array.of(1, 2, 3, 4) };

function sample(): Uint8Array<ArrayBuffer> {
  const floats = float32Tensor([2, 2], Float32Array.of(1, -2, 3.5, NaN));
  const tensors = [["b", BYTES], ["a", floats], ["c", HALVES]] as const;
  return writeSafetensors(tensors, [["format", "test/1"], ["emoji", "🙂"]]);
}

/** A file with this header, whatever it says, and this many bytes of data. */
function withHeader(header: string, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  return file;
}

Deno.test("a written file parses to the same tensors and metadata", () => {
  const { metadata, tensors } = parseSafetensors(sample());
  assertEquals([...metadata].sort(), [["emoji", "🙂"], ["format", "test/1"]]);
  assertEquals([...tensors.keys()].sort(), ["a", "b", "c"]);
  assertEquals(tensors.get("b"), BYTES);
  assertEquals(tensors.get("c"), HALVES);
  const floats = tensors.get("a");
  assertEquals(new Float32Array(floats?.data.slice().buffer ?? new ArrayBuffer(0))[2], 3.5);
});

Deno.test("the order of tensors and metadata does not change the file", () => {
  const one = writeSafetensors([["x", BYTES], ["y", HALVES]], [["k", "1"], ["j", "2"]]);
  const two = writeSafetensors([["y", HALVES], ["x", BYTES]], [["j", "2"], ["k", "1"]]);
  assertEquals(one, two);
});

Deno.test("a file without tensors and names that objects inherit are read as written", () => {
  assertEquals(parseSafetensors(writeSafetensors([])).tensors.size, 0);
  const scalar: SafetensorsTensor = { dtype: "I64", shape: [], data: new Uint8Array(8) };
  const { tensors } = parseSafetensors(writeSafetensors([["constructor", scalar]]));
  assertEquals([...tensors.keys()], ["constructor"]);
});

Deno.test("a header that lies is refused with the tensor's name", () => {
  const entry = (shape: string, offsets: string, dtype = `"F32"`): string =>
    `{"w":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
  const refused: readonly (readonly [string, number, string])[] = [
    [entry("[2]", "[0,4]"), 4, "takes 8 bytes"],
    [entry("[1]", "[4,8]"), 8, "hole"],
    [entry("[1]", "[0,4]"), 8, "the file at"],
    [entry("[4]", "[0,16]"), 4, "the file at"],
    [entry("[1]", "[4,0]"), 4, "hold -4"],
    [entry("[-1]", "[0,4]"), 4, "shape"],
    [entry("[1.5]", "[0,6]"), 6, "shape"],
    [entry("[9007199254740991,9007199254740991]", "[0,4]"), 4, "shape"],
    [entry("[1]", "[0]"), 4, "offsets"],
    [entry("[1]", "[0,4]", `"F31"`), 4, "F31"],
    [entry("[1]", "[0,4]", "null"), 4, "dtype"],
    [`{"w":7}`, 0, "'w'"],
    [`{"__metadata__":{"a":1}}`, 0, "'a'"],
    [`{"__metadata__":[]}`, 0, "__metadata__"],
    [`[]`, 0, "object"],
    [`{"w"`, 0, "JSON"],
  ];
  for (const [header, bytes, message] of refused) {
    assertThrows(() => parseSafetensors(withHeader(header, bytes)), TypeError, message);
  }
  const twice = `{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},` +
    `"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`;
  assertThrows(() => parseSafetensors(withHeader(twice, 3)), TypeError, "overlaps");
});

Deno.test("a header length beyond the file is refused before anything is read", () => {
  const file = sample();
  for (const length of [0n, 1n, BigInt(file.length), 100_000_001n, 2n ** 63n, 2n ** 64n - 1n]) {
    new DataView(file.buffer).setBigUint64(0, length, true);
    assertThrows(() => parseSafetensors(file), TypeError, `claims ${length}`);
  }
});

Deno.test("a file cut anywhere is refused", () => {
  const file = sample();
  for (let length = 0; length < file.length; length++) {
    assertThrows(() => parseSafetensors(file.subarray(0, length)), TypeError);
  }
});

Deno.test("flipped bits in the header give an error or another valid file", () => {
  const random = seeded(1);
  let refused = 0;
  for (let round = 0; round < 2000; round++) {
    const file = sample();
    const at = Math.floor(random() * 220);
    file[at] = (file[at] ?? 0) ^ 1 << Math.floor(random() * 8);
    try {
      parseSafetensors(file);
    } catch (error) {
      assertInstanceOf(error, TypeError);
      refused++;
    }
  }
  assert(refused > 1000, `only ${refused} of 2000 were refused`);
});

Deno.test("a tensor whose data do not fit its shape is not written", () => {
  const wrong: SafetensorsTensor = { ...BYTES, shape: [4] };
  assertThrows(() => writeSafetensors([["w", wrong]]), TypeError, "takes 4 bytes");
});
