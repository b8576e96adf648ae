/** Numbers of 16 bits: the bits of what rounds, ties, overflows and is no number. */
import { assertEquals } from "@std/assert";
import { encodeFloats } from "../../src/util/floats.ts";

const hex = (bits: ArrayLike<number>) =>
  Array.from(bits, (one) => one.toString(16).padStart(4, "0"));

Deno.test("float16 rounds to the nearest, ties to even, beyond 65,504 to infinity", () => {
  const numbers = [1, -2, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 65520, 2 ** -24, 2 ** -26];
  const bits = ["3c00", "c000", "3c00", "3c02", "7bff", "7c00", "0001", "0000"];
  assertEquals(hex(encodeFloats("float16", Float32Array.from(numbers))), bits);
});

Deno.test("bfloat16 is the first half of a float32, rounded to the nearest, ties to even", () => {
  const numbers = [1, -2, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38, -Infinity, NaN];
  const bits = ["3f80", "c000", "3f80", "3f82", "7f80", "ff80", "7fc0"];
  assertEquals(hex(encodeFloats("bfloat16", Float32Array.from(numbers))), bits);
});

Deno.test("a bfloat16 of a part of an array is that part's", () => {
  const part = Float32Array.of(1, 2, 3).subarray(1);
  assertEquals(hex(encodeFloats("bfloat16", part)), ["4000", "4040"]);
});
