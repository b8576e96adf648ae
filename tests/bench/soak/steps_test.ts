/** What the soak asks for: the same for the same seed, and of every kind. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { type Ask, planSoak, requestsOf, type Step } from "../../../bench/soak/steps.ts";

function steps(seed: number, count: number): Step[] {
  const options = { seed, base: "tiny", tenants: ["a", "b"], files: 3, sets: 2, schemas: 2 };
  return planSoak(options).take(count).toArray();
}

Deno.test("a seed says every step", () => {
  assertEquals(steps(1, 300), steps(1, 300));
  assertNotEquals(steps(1, 300), steps(2, 300));
});

Deno.test("a thousand steps hold every kind, for every tenant and factor set", () => {
  const all = steps(1, 1000);
  const asks = all.filter((step): step is Ask => step.type === "ask");
  const visits = all.filter((step) => step.type === "visit");
  assertEquals(new Set(visits.map(({ set }) => set)), new Set([0, 1]));
  assertEquals(new Set(all.flatMap(({ tenant }) => tenant ?? [])), new Set(["a", "b"]));
  assert(all.some(({ type }) => type === "reload"), "cores are loaded in place");
  const bodies = asks.map(({ body }) => JSON.stringify(body ?? null));
  for (const field of ["response_format", '"stream":true', '"n":2', "top_p", "a/main"]) {
    assert(bodies.some((body) => body.includes(field)), field);
  }
  assert(asks.some(({ leavesAfter }) => leavesAfter !== undefined), "streams are left");
  assert(asks.some(({ refused }) => refused), "some cannot be");
  assert(asks.some(({ body }) => body === undefined), "some only look");
});

Deno.test("new schemas come first", () => {
  const bodies = steps(1, 2).map((step) => step.type === "ask" ? JSON.stringify(step.body) : "");
  assert(bodies.every((body) => /answer_\d/.test(body)), bodies.join("\n"));
});

Deno.test("a visit counts all its requests: put, asks, removal", () => {
  const visit = steps(1, 1000).find(({ type }) => type === "visit");
  assertEquals(visit && requestsOf(visit), 4);
});
