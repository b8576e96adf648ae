/** The policy alone: what is planned for given rows, queue and memory. */
import { assert, assertEquals } from "@std/assert";
import { TokenTexts } from "../../src/engine/detokenizer.ts";
import { Lane } from "../../src/engine/lane.ts";
import { kvBytes } from "../../src/engine/memory.ts";
import { planPreemption, planPrefill, type PrefillView } from "../../src/engine/scheduler.ts";
import { Sequence } from "../../src/engine/sequence.ts";
import { comparePlaces, TurnKeeper, WaitingQueue } from "../../src/engine/waiting.ts";
import { fakeModel, request, seeded, tokenizer } from "./harness.ts";

const texts = new TokenTexts(tokenizer);

function newLane(maxBatch = 4): Lane {
  return new Lane(undefined, fakeModel({ maxBatch, prefillTokens: 64, kvBytesPerToken: 10 }));
}

interface Wanted {
  readonly tenant?: string;
  readonly priority?: number;
}

function waiting(lane: Lane, turns: TurnKeeper, length: number, wanted: Wanted = {}): Sequence {
  const { tenant = "t", priority = 0 } = wanted;
  const asked = request({ tenant, priority, prompt: new Array<number>(length).fill(65) });
  const sequence = new Sequence({
    request: asked,
    index: 0,
    seed: 1,
    place: turns.place(tenant, priority),
    lane,
    texts,
    eosTokens: new Set(),
    maxLength: 256,
    now: 0,
  });
  sequence.enter("waiting");
  return sequence;
}

/** Admits a sequence with all but its newest token computed. */
function run(lane: Lane, sequence: Sequence): Sequence {
  sequence.enter("prefill");
  lane.admit(sequence);
  sequence.computed = sequence.length - 1;
  sequence.reserved = kvBytes(sequence.computed, 10);
  sequence.enter("running");
  return sequence;
}

function view(
  lane: Lane,
  queue: readonly Sequence[],
  more: Partial<PrefillView> = {},
): PrefillView {
  return { lane, waiting: queue, admitted: lane.rows, freeBytes: 1e6, hit: () => 0, ...more };
}

Deno.test("first prompts of like length go in one batch within the token budget", () => {
  const lane = newLane();
  const turns = new TurnKeeper();
  const queue = [20, 2, 18, 20, 64, 20].map((length) => waiting(lane, turns, length));
  const plan = planPrefill(view(lane, queue));
  assertEquals(plan.kind, "batch");
  assertEquals(plan.kind === "batch" && plan.sequences.map((each) => each.length), [20, 18, 20]);
});

Deno.test("a batch never computes much padding, overflows its budget or leaves the head behind", () => {
  const random = seeded(4);
  for (let round = 0; round < 300; round++) {
    const lane = newLane(1 + Math.floor(random() * 12));
    const turns = new TurnKeeper();
    const count = 1 + Math.floor(random() * 20);
    const queue = Array.from(
      { length: count },
      () => waiting(lane, turns, 1 + Math.floor(random() * 80)),
    );
    const plan = planPrefill(view(lane, queue));
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
  const turns = new TurnKeeper();
  const queue = [60, 4].map((length) => waiting(lane, turns, length));
  assertEquals(planPrefill(view(lane, queue, { freeBytes: 500 })).kind, "none");
  const plan = planPrefill(view(lane, queue.toReversed(), { freeBytes: 500 }));
  assertEquals(plan.kind === "batch" && plan.sequences.length, 1);
});

Deno.test("an admission leaves room for running rows to grow", () => {
  const lane = newLane();
  const turns = new TurnKeeper();
  run(lane, waiting(lane, turns, 16));
  const queue = [waiting(lane, turns, 16)];
  assertEquals(planPrefill(view(lane, queue, { freeBytes: 319 })).kind, "none");
  assertEquals(planPrefill(view(lane, queue, { freeBytes: 320 })).kind, "batch");
});

Deno.test("another lane's sequence keeps its memory, unless its lane is full", () => {
  const lane = newLane();
  const other = newLane(1);
  const turns = new TurnKeeper();
  const queue = [waiting(other, turns, 60), waiting(lane, turns, 4)];
  assertEquals(planPrefill(view(lane, queue, { freeBytes: 700 })).kind, "none");
  run(other, waiting(other, turns, 4));
  assertEquals(planPrefill(view(lane, queue, { freeBytes: 700 })).kind, "batch");
});

Deno.test("a cached prefix is taken alone, at once even beside a long prompt in chunks", () => {
  const lane = newLane();
  const turns = new TurnKeeper();
  const partial = waiting(lane, turns, 100);
  partial.enter("prefill");
  lane.admit(partial);
  lane.continued = true;
  const queue = [waiting(lane, turns, 90), waiting(lane, turns, 90)];
  const cached = { hit: (sequence: Sequence) => sequence === queue[1] ? 64 : 0 };
  const plan = planPrefill(view(lane, queue, cached));
  assert(plan.kind === "single" && plan.sequence === queue[1]);
  lane.continued = false;
  const next = planPrefill(view(lane, queue, cached));
  assert(next.kind === "chunk" && next.sequence === partial);
});

Deno.test("the newest of the lowest priority gives way, and no more than needed", () => {
  const lane = newLane(8);
  const turns = new TurnKeeper();
  const rows = [0, 1, 0, 1].map((priority) => run(lane, waiting(lane, turns, 17, { priority })));
  assertEquals(planPreemption(lane, lane.rows, 640), []);
  assertEquals(planPreemption(lane, lane.rows, 639), [rows[3]]);
  assertEquals(planPreemption(lane, lane.rows, 200), [rows[3], rows[1]]);
  assertEquals(planPreemption(lane, lane.rows, 0), [rows[3], rows[1]]);
});

Deno.test("with one tenant the queue keeps arrival within priority", () => {
  const lane = newLane();
  const turns = new TurnKeeper();
  const queue = new WaitingQueue();
  const arrivals = [0, 2, 0, 1, -1].map((priority) => waiting(lane, turns, 4, { priority }));
  for (const sequence of arrivals.toReversed()) queue.add(sequence);
  assertEquals(queue.ordered.map((each) => arrivals.indexOf(each)), [4, 0, 2, 3, 1]);
});

Deno.test("a tenant's waiting sequence is not starved by new tenants without end", () => {
  const turns = new TurnKeeper();
  turns.place("old", 0);
  const second = turns.place("old", 0);
  let served = 0;
  for (;;) {
    const guest = turns.place(`guest-${served}`, 0);
    if (comparePlaces(second, guest) < 0) break;
    turns.served(guest);
    assert(++served < 5, "the old tenant waits behind every new one");
  }
});
