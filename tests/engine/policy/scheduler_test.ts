/** The policy for one tenant: what is planned for given rows, queue and memory. */
import { assert, assertEquals } from "@std/assert";
import { planPreemption, planPrefill } from "../../../src/engine/policy/scheduler.ts";
import type { Sequence } from "../../../src/engine/sequence.ts";
import { seeded } from "../harness.ts";
import { Line, newLane } from "./waiting_line.ts";

Deno.test("first prompts of like length go in one batch within the token budget", () => {
  const lane = newLane();
  const line = new Line();
  for (const length of [20, 2, 18, 20, 64, 20]) line.waiting(lane, length);
  const plan = planPrefill(line.view(lane));
  assertEquals(plan.kind, "batch");
  assertEquals(plan.kind === "batch" && plan.sequences.map((each) => each.length), [20, 18, 20]);
});

Deno.test("a batch never computes much padding, overflows its budget or leaves the head behind", () => {
  const random = seeded(4);
  for (let round = 0; round < 300; round++) {
    const lane = newLane(1 + Math.floor(random() * 12));
    const line = new Line();
    const count = 1 + Math.floor(random() * 20);
    const queue = Array.from(
      { length: count },
      () => line.waiting(lane, 1 + Math.floor(random() * 80)),
    );
    const plan = planPrefill(line.view(lane));
    if (plan.kind === "single") {
      assert(plan.sequence === queue[0] && plan.sequence.length > 64);
      continue;
    }
    assert(plan.kind === "batch" && plan.sequences[0] === queue.find((each) => each.length <= 64));
    const lengths = plan.sequences.map((each) => each.length);
    const padded = lengths.length * Math.max(...lengths);
    assert(lengths.length <= lane.model.maxBatch && padded <= 64, `${lengths}`);
    assert(lengths.reduce((sum, length) => sum + length) >= 0.75 * padded, `${lengths}`);
  }
});

Deno.test("nobody is admitted past a sequence that memory holds up", () => {
  const lane = newLane();
  const line = new Line();
  for (const length of [60, 4]) line.waiting(lane, length);
  assertEquals(planPrefill(line.view(lane, { freeBytes: 500 })).kind, "none");
  const other = new Line();
  for (const length of [4, 60]) other.waiting(lane, length);
  const plan = planPrefill(other.view(lane, { freeBytes: 500 }));
  assertEquals(plan.kind === "batch" && plan.sequences.length, 1);
});

Deno.test("an admission leaves room for running rows to grow", () => {
  const lane = newLane();
  const line = new Line();
  line.running(lane, 16);
  line.waiting(lane, 16);
  assertEquals(planPrefill(line.view(lane, { freeBytes: 319 })).kind, "none");
  assertEquals(planPrefill(line.view(lane, { freeBytes: 320 })).kind, "batch");
});

Deno.test("another lane's sequence keeps its memory, unless its lane is full", () => {
  const lane = newLane();
  const other = newLane(1);
  const line = new Line();
  line.waiting(other, 60);
  line.waiting(lane, 4);
  assertEquals(planPrefill(line.view(lane, { freeBytes: 700 })).kind, "none");
  line.running(other, 4);
  assertEquals(planPrefill(line.view(lane, { freeBytes: 700 })).kind, "batch");
});

Deno.test("a cached prefix is taken alone, at once even beside a long prompt in chunks", () => {
  const lane = newLane();
  const line = new Line();
  const partial = line.partial(lane, 100);
  lane.continued = true;
  line.waiting(lane, 90);
  const second = line.waiting(lane, 90);
  const cached = { hit: (sequence: Sequence) => sequence === second ? 64 : 0 };
  const plan = planPrefill(line.view(lane, cached));
  assert(plan.kind === "single" && plan.sequence === second);
  lane.continued = false;
  const next = planPrefill(line.view(lane, cached));
  assert(next.kind === "chunk" && next.sequence === partial);
});

Deno.test("a long prompt's chunks are short while other rows decode, and only then", () => {
  const lane = newLane(4, 512);
  const line = new Line();
  const long = line.waiting(lane, 2000);
  const first = planPrefill(line.view(lane));
  assert(first.kind === "single" && first.sequence === long && first.tokens === 512);
  line.running(lane, 20);
  const beside = planPrefill(line.view(lane));
  assert(beside.kind === "single" && beside.sequence === long && beside.tokens === 32);
  line.partial(lane, 1000);
  const next = planPrefill(line.view(lane));
  assert(next.kind === "chunk" && next.tokens === 32);
});

Deno.test("what a cached prefix leaves is computed at once, beside rows that decode too", () => {
  const lane = newLane(4, 512);
  const line = new Line();
  line.running(lane, 20);
  line.waiting(lane, 2000);
  const plan = planPrefill(line.view(lane, { hit: () => 1700 }));
  assert(plan.kind === "single" && plan.tokens === 512);
});

Deno.test("the newest of the lowest priority gives way, and no more than needed", () => {
  const lane = newLane(8);
  const line = new Line();
  const rows = [0, 1, 0, 1].map((priority) => line.running(lane, 17, { priority }));
  assertEquals(planPreemption(lane, lane.rows, 640), []);
  assertEquals(planPreemption(lane, lane.rows, 639), [rows[3]]);
  assertEquals(planPreemption(lane, lane.rows, 200), [rows[3], rows[1]]);
  assertEquals(planPreemption(lane, lane.rows, 0), [rows[3], rows[1]]);
});

Deno.test("with one tenant the queue keeps arrival within priority", () => {
  const lane = newLane();
  const line = new Line();
  const arrivals = [0, 2, 0, 1, -1].map((priority) => line.waiting(lane, 4, { priority }));
  assertEquals(line.order().map((each) => arrivals.indexOf(each)), [4, 0, 2, 3, 1]);
  for (const each of arrivals.toReversed()) line.queue.remove(each);
  assertEquals([line.queue.size, line.order()], [0, []]);
});
