/** Whose rows share a micro-batch: budgets, turns, and what rows share. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import {
  type Candidate,
  gridCost,
  layOut,
  planMicroBatch,
  type WaitingRow,
} from "../../src/train/micro_batches.ts";
import { streamKey, uniformOf } from "../../src/util/random.ts";

/** Rows of so many tokens to compute, whose first `shared` are alike: the one behind carries loss. */
function rowsOf(lengths: readonly number[], shared: number): WaitingRow[] {
  return lengths.toSorted((a, b) => b - a).map((length, row) => ({
    example: {
      tokens: Int32Array.from({ length: length + 1 }, (_, i) => i < shared ? 0 : row + 1),
      weights: Float32Array.from({ length: length + 1 }, (_, i) => i === length ? 1 : 0),
      line: 1,
    },
    length,
  }));
}

function candidate(lengths: readonly number[], given: Partial<Candidate> = {}): Candidate {
  const shared = given.shared ?? 0;
  return { kind: "step", waiting: rowsOf(lengths, shared), shared, served: 0, ...given };
}

/** What the grid costs that these rows are laid out on. */
function costOf({ picks }: NonNullable<ReturnType<typeof planMicroBatch>>): number {
  const { time, shared } = layOut(picks.map(({ rows }) => rows.map(({ example }) => example)));
  const extra = shared.reduce((sum, length) => sum + Math.ceil(length / time), 0);
  const lengths = picks.flatMap(({ rows }, i) => rows.map(({ length }) => length - shared[i]));
  const tokens = [...shared, ...lengths].reduce((sum, length) => sum + length, 0);
  return gridCost(tokens, (lengths.length + extra) * time);
}

Deno.test("no row waits: there is no plan", () => {
  assertEquals(planMicroBatch([], 100), undefined);
  assertEquals(planMicroBatch([candidate([])], 100), undefined);
});

Deno.test("the job that was served least leads, the first of equals", () => {
  const [one, two, three] = [5, 2, 2].map((served) => candidate([10, 10], { served }));
  assertEquals(planMicroBatch([one, two, three], 10)?.picks[0].candidate, two);
});

Deno.test("steps and evaluations are not mixed", () => {
  const step = candidate([4, 4], { served: 1 });
  const evaluation = candidate([4, 4], { kind: "evaluation" });
  const plan = planMicroBatch([step, evaluation], 100);
  assertEquals(plan?.kind, "evaluation");
  assertEquals(plan?.picks.map((pick) => pick.candidate), [evaluation]);
});

Deno.test("a row longer than the budget goes alone", () => {
  const plan = planMicroBatch([candidate([30, 5]), candidate([5])], 16);
  assertEquals(plan?.picks.flatMap(({ rows }) => rows.map(({ length }) => length)), [30]);
});

Deno.test("rows of like length fill the budget, from as many jobs as it takes", () => {
  const plan = planMicroBatch([candidate([8, 8]), candidate([8, 7]), candidate([8, 8, 8])], 40);
  assertEquals(plan?.picks.map(({ rows }) => rows.length), [2, 2, 1]);
});

Deno.test("what a job's rows share counts once, so that more of them fit", () => {
  const lengths = Array.from({ length: 20 }, () => 30);
  const alone = planMicroBatch([candidate(lengths)], 120);
  const sharing = planMicroBatch([candidate(lengths, { shared: 20 })], 120);
  assertEquals(alone?.picks[0].rows.length, 4);
  assertEquals(sharing?.picks[0].rows.length, 10);
});

Deno.test("random jobs are served to the end, within the budget and about evenly", () => {
  for (let seed = 0; seed < 40; seed++) {
    const key = streamKey(seed, 1);
    let counter = 0;
    const draw = (least: number, most: number) =>
      least + Math.floor(uniformOf(key, counter++) * (most - least + 1));
    const budget = draw(20, 80);
    const jobs = Array.from({ length: draw(1, 5) }, () => {
      const shared = draw(0, 1) * draw(0, 9);
      const lengths = Array.from({ length: draw(1, 30) }, () => shared + draw(2, 12));
      return { ...candidate(lengths, { shared }), waiting: rowsOf(lengths, shared), served: 0 };
    });
    for (;;) {
      const plan = planMicroBatch(jobs, budget);
      if (plan === undefined) break;
      const waiting = jobs.filter((job) => job.waiting.length > 0);
      const least = Math.min(...waiting.map(({ served }) => served));
      assertEquals(plan.picks[0].candidate.served, least);
      const count = plan.picks.reduce((sum, { rows }) => sum + rows.length, 0);
      if (count > 1) assertLessOrEqual(costOf(plan), budget, `seed ${seed}`);
      for (const { candidate: job, rows } of plan.picks) {
        const before = job.waiting.length;
        assert(rows.length > 0);
        job.waiting = job.waiting.filter((row) => !rows.includes(row));
        assertEquals(before - job.waiting.length, rows.length);
        job.served += rows.reduce((sum, { example }) => sum + example.tokens.length, 0);
      }
    }
    assert(jobs.every(({ waiting }) => waiting.length === 0));
  }
});
