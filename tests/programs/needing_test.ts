/** What a test's head says where a program is there, is missing, or is required. */
import { assertEquals } from "@std/assert";
import { needing } from "./needing.ts";

const VARIABLE = "LEMBAS_TEST_NEEDING";

Deno.test("a test whose program is missing is listed with the reason, and runs where it must", () => {
  assertEquals(needing("it sails", undefined, VARIABLE), { name: "it sails", ignore: false });
  assertEquals(needing("it sails", "there is no ship", VARIABLE), {
    name: "it sails (passed over: there is no ship)",
    ignore: true,
  });
  Deno.env.set(VARIABLE, "required");
  try {
    const required = needing("it sails", "there is no ship", VARIABLE);
    assertEquals(required, { name: "it sails", ignore: false });
  } finally {
    Deno.env.delete(VARIABLE);
  }
});
