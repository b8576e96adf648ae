/** What a store throws: a refusal is the caller's mistake, anything else is ours. */
import { OpenAPIHono } from "@hono/zod-openapi";
import { assertEquals, assertStringIncludes } from "@std/assert";
import { ConflictError, FieldError, FieldRangeError } from "../../src/util/errors.ts";
import type { AppEnv } from "../../server/http/endpoint.ts";
import { toApiError } from "../../server/http/errors.ts";
import { storing } from "../../server/http/routes/admin_context.ts";
import { errorOf } from "./asked.ts";

/** The answer of a route whose store throws. */
async function answerTo(thrown: Error, answers: Parameters<typeof storing>[1] = {}) {
  const app = new OpenAPIHono<AppEnv>();
  app.onError((error) => toApiError(error, "req_1").response());
  app.get("/", async (c) => c.json(await storing(() => Promise.reject(thrown), answers)));
  const { status, message, ...error } = await errorOf(await app.request("/"));
  return { answer: [status, error.param, error.code], message };
}

Deno.test("what a store refuses by its field is the caller's to mend", async () => {
  const refused = await answerTo(new FieldError("name", "no such name can be"));
  assertEquals(refused, {
    answer: [400, "name", "invalid_value"],
    message: "no such name can be",
  });
  const gone = await answerTo(new FieldRangeError("version", "there is no such version"));
  assertEquals(gone.answer, [400, "version", "invalid_value"]);
  const taken = await answerTo(new ConflictError("id", "there is one already"));
  assertEquals(taken.answer, [409, "id", "conflict"]);
  const none = new FieldRangeError("name", "none is before it");
  assertEquals((await answerTo(none, { unfit: 409 })).answer, [409, "name", "conflict"]);
  const path = await answerTo(new FieldError("id", "no tenant's id"), { param: "tenant" });
  assertEquals(path.answer, [400, "tenant", "invalid_value"]);
});

Deno.test("any other error of a store is a fault of ours, and its text stays in the log", async () => {
  for (const fault of [new TypeError("row.limits is undefined"), new RangeError("Invalid date")]) {
    const { answer, message } = await answerTo(fault);
    assertEquals(answer, [500, null, "internal_error"]);
    assertStringIncludes(message, "req_1");
  }
});
