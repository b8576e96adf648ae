/** The check of 8-bit products, on this processor and on what one that saturates would give. */
import { assertEquals } from "@std/assert";
import { areExact, productsAreExact } from "../../src/executor/integer_check.ts";
import { openDevice } from "../../src/runtime/open.ts";

Deno.test("a processor with VNNI multiplies the extremes of u8 and s8 exactly", async () => {
  using device = openDevice("cpu");
  const { stdout } = await new Deno.Command("cat", { args: ["/proc/cpuinfo"] }).output();
  const vnni = new TextDecoder().decode(stdout).includes("vnni");
  const exact = await productsAreExact(device, "int8");
  if (vnni) assertEquals(exact, true);
});

Deno.test("every processor multiplies the extremes of u8 and u8 exactly", async () => {
  using device = openDevice("cpu");
  assertEquals(await productsAreExact(device, "uint8"), true);
});

Deno.test("sums of pairs that stopped at 16 bits are told from exact ones", () => {
  const exact = 127 * 127 * 64;
  // 255 · 127 twice is 64,770: a 16-bit sum of a pair stops at 32,767; the zero point is taken after.
  const saturated = 32 * 32767 - 128 * 127 * 64;
  assertEquals(areExact(Float32Array.of(exact, -exact)), true);
  assertEquals(areExact(Float32Array.of(saturated, -exact)), false);
});
