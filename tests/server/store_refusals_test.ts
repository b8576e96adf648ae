/** What a store throws: a refusal is the caller's mistake, anything else is ours. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConflictError, FieldError, FieldRangeError } from "../../src/util/errors.ts";
import { ApiError, refusing, toApiError } from "../../server/errors.ts";

function answerTo(thrown: Error) {
  const { status, message, details } = toApiError(thrown, "req_1");
  return { answer: [status, details.param, details.code], message };
}

Deno.test("what a store refuses by its field is the caller's to mend", async () => {
  const refused = answerTo(new FieldError("name", "no such name can be"));
  assertEquals(refused, {
    answer: [400, "name", "invalid_value"],
    message: "no such name can be",
  });
  const gone = answerTo(new FieldRangeError("version", "there is no such version"));
  assertEquals(gone.answer, [400, "version", "invalid_value"]);
  const taken = answerTo(new ConflictError("id", "there is one already"));
  assertEquals(taken.answer, [409, "id", "conflict"]);
  const refusal = () => Promise.reject(new FieldError("id", "no tenant's id"));
  const named = await assertRejects(() => refusing("tenant", refusal), ApiError);
  assertEquals(answerTo(named).answer, [400, "tenant", "invalid_value"]);
});

Deno.test("any other error of a store is a fault of ours, and its text stays in the log", async () => {
  for (const fault of [new TypeError("row.limits is undefined"), new RangeError("Invalid date")]) {
    await assertRejects(
      () => refusing("tenant", () => Promise.reject(fault)),
      Error,
      fault.message,
    );
    const { answer, message } = answerTo(fault);
    assertEquals(answer, [500, undefined, "internal_error"]);
    assertStringIncludes(message, "req_1");
  }
});
