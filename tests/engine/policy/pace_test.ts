/** Chunks of a long prompt take as long as a decode step, whatever a token costs. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { Pace } from "../../../src/engine/policy/pace.ts";

/** Chunks and steps in turns; seconds of the last chunk. */
function settle(pace: Pace, step: number, cost: (tokens: number) => number, turns = 30): number {
  for (let turn = 0; turn < turns; turn++) {
    pace.decoded(step);
    pace.chunked(pace.tokens, cost(pace.tokens));
  }
  return cost(pace.tokens);
}

Deno.test("a chunk takes as long as a step where a run has a cost of its own, and costs change", () => {
  const pace = new Pace();
  assertEquals(pace.tokens, 32);
  const near = settle(pace, 0.05, (tokens) => 0.02 + 0.001 * tokens);
  assert(near > 0.045 && near < 0.055, `${near}`);
  // the prompt has more before it by now
  const far = settle(pace, 0.05, (tokens) => 0.02 + 0.002 * tokens);
  assert(far > 0.04 && far < 0.055, `${far}`);
  assertLess(pace.tokens, 20);
  // more rows decode
  assert(settle(pace, 0.1, (tokens) => 0.02 + 0.002 * tokens) > 0.08);
});

Deno.test("chunks stay within bounds, and one disturbed run or a short rest changes little", () => {
  const pace = new Pace();
  settle(pace, 0.02, (tokens) => 0.03 + 0.001 * tokens);
  assertEquals(pace.tokens, 8);
  settle(pace, 1, (tokens) => 0.001 * tokens);
  assertEquals(pace.tokens, 64);
  pace.chunked(64, 50);
  assertEquals(pace.tokens, 32);
  pace.chunked(3, 10);
  assertEquals(pace.tokens, 32);
});

Deno.test("steps go ahead as far as they are known to take no longer together", () => {
  const pace = new Pace();
  assertEquals(pace.stepsWithin(0.05), 1, "nothing is measured");
  for (let i = 0; i < 30; i++) pace.decoded(0.012);
  assertEquals(pace.stepsWithin(0.05), 4);
  for (let i = 0; i < 30; i++) pace.decoded(0.2);
  assertEquals(pace.stepsWithin(0.05), 1);
});
