/** The local `@std/assert`: that each assertion fails where the published one does, and only there. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertExists,
  assertGreater,
  AssertionError,
  assertIsError,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "@std/assert";
import * as standIn from "../../std/assert/mod.ts";

function refuses(fn: () => void): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof AssertionError) return error.message;
    throw error;
  }
  throw new Error("the assertion held where it had to fail");
}

Deno.test("equality is deep, takes 0 for -0 and NaN for NaN, and sees types, keys and order", () => {
  assertEquals({ a: [1, { b: new Float32Array([0, NaN]) }] }, {
    a: [1, { b: new Float32Array([-0, NaN]) }],
  });
  assertEquals(new Map([["a", new Set([1])]]), new Map([["a", new Set([1])]]));
  refuses(() => assertEquals<unknown>([1, 2], [2, 1]));
  refuses(() => assertEquals<unknown>({ a: undefined }, {}));
  refuses(() => assertEquals<unknown>({ a: undefined }, { b: undefined }));
  refuses(() => assertEquals<unknown>(new Int8Array([1]), new Uint8Array([1])));
  refuses(() => assertEquals(new Date(0), new Date(1)));
  refuses(() => assertEquals<unknown>("1", 1));
});

Deno.test("a failed comparison of large tensors stays readable", () => {
  // The published package cannot say it at all: its difference of such arrays needs 80 GB.
  const { message } = standIn.assertThrows(
    () => standIn.assertEquals(new Float32Array(1e5), new Float32Array(1e5).fill(1)),
    standIn.AssertionError,
  );
  assert(message.length < 4000, `${message.length} characters`);
});

Deno.test("plain assertions fail on what they must refuse", () => {
  refuses(() => assert(0));
  refuses(() => assertNotEquals([1], [1]));
  refuses(() => assertStrictEquals<unknown>({}, {}));
  refuses(() => assertAlmostEquals(1, 1.01, 1e-3));
  refuses(() => assertAlmostEquals(NaN, 1, 1e9));
  refuses(() => assertGreater(1, 1));
  refuses(() => assertExists(null));
  refuses(() => assertMatch("abc", /d/));
  refuses(() => assertStringIncludes("abc", "d"));
  refuses(() => assertIsError(new TypeError("x"), RangeError));
  assertStringIncludes(refuses(() => fail("why")), "why");
});

Deno.test("assertThrows returns the error, and refuses silence, another class or another text", () => {
  const thrower = () => {
    throw new RangeError("Cannot take 3");
  };
  assertEquals(assertThrows(thrower, RangeError, "take").message, "Cannot take 3");
  refuses(() => assertThrows(() => {}));
  refuses(() => assertThrows(() => {}, "nothing thrown"));
  refuses(() => assertThrows(thrower, TypeError));
  refuses(() => assertThrows(thrower, RangeError, "give"));
});

Deno.test("assertRejects wants a rejection, not a throw and not silence", async () => {
  const error = await assertRejects(() => Promise.reject(new TypeError("no")), TypeError, "no");
  assertEquals(error.message, "no");
  await assertRejects(() => assertRejects(() => Promise.resolve()), AssertionError);
  await assertRejects(
    () =>
      assertRejects(() => {
        throw new TypeError("early");
      }),
    AssertionError,
    "when expected to reject",
  );
});
