/** What becomes of a client whose package cannot be had. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { LONG } from "../long.ts";
import { Environments, MissingPackage, passedOver } from "./environments.ts";

Deno.test({
  name: "a version that is nowhere is told as pip tells it, and its environment is none",
  ignore: !LONG,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "lembas-clients-" });
    try {
      const error = await assertRejects(
        () => new Environments(folder).with(["openai==3.57.99999"]),
        MissingPackage,
      );
      assertStringIncludes(error.message, "ERROR: No matching distribution found for openai==3");
      for await (const { name } of Deno.readDir(folder)) {
        await assertRejects(() => Deno.stat(`${folder}/${name}/whole`), Deno.errors.NotFound);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("a client whose package is missing is passed over, unless all are required", () => {
  const missing = new MissingPackage("No matching distribution found");
  assertEquals(passedOver(missing, false), "No matching distribution found");
  assertEquals(passedOver(missing, true), undefined);
  assertEquals(passedOver(new Error("a script failed"), false), undefined);
  assertEquals(passedOver(undefined, false), undefined);
});
